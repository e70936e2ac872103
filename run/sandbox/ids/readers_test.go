package ids

import (
	"strings"
	"testing"
)

func TestSightOf(t *testing.T) {
	for line, want := range map[string]bool{
		"cp a b": false, "cp -a a b": true, "/bin/cp -dR --preserve=all a b": true, "cp --no-preserve=mode a b": false, "cp -- -a b": false,
		"ls": false, "ls -1 --color=auto": false, "ls -la": true, "ls --format=long": true, "ls --form=long": true,
		"find / -name x": false, "find / -user bin": true, "find . -type f -ls": true,
		"tar xf a": false, "tar -xpf a": false, "tar --extract -f a": false, "tar -Ixz -cf a b": true, "tar --exclude=x -cf a b": true, "tar c": true, "tar": true,
		"chown 1 a": false, "chown --from=0 1 a": true, "chown --reference=b a": true, "[ -e a ]": false, "[ -O a ]": true, "test -G a": true,
		"install -o 5 a b": false, "install -C a b": true, "dpkg -i a": true, "rsync -a b c": true, "pg_ctl start": true,
		"busybox cp a b": false, "busybox cp -p a b": true, "busybox": false, "sh -c ls": false, "git status": false,
		"/usr/lib/postfix/sbin/master -w": true, "/usr/sbin/exim4 -bd": true, "sendmail root": true, "/usr/sbin/tor --User debian-tor": true, "chronyd -u _chrony": true, "zip -r a b": true, "true": false,
	} {
		args := strings.Fields(line)
		if got := SightOf(args[0], args, false); (got == Owners) != want {
			t.Errorf("%s: %v", line, got)
		}
		if want && !MayReadOwners(args[0]) {
			t.Errorf("%s: not asked for", line)
		}
	}
	if itself := "/proc/self/exe"; SightOf(itself, []string{"tar", "c"}, false) != Owners || SightOf(itself, []string{"x"}, false) != Plain || !MayReadOwners(itself) {
		t.Error("a program that executes itself by another name is not taken for that one")
	}
	for line, want := range map[string]bool{
		"/bin/ps aux": true, "pkill -u www-data": true, "busybox ps": true, "killall x": false, "killall -u bin": true, "start-stop-daemon -K -u bin": true,
		"start-stop-daemon --stop --quiet --user bin": true, "start-stop-daemon --start --user bin": false, "start-stop-daemon -K -p x": false,
	} {
		args := strings.Fields(line)
		if got := SightOf(args[0], args, false); (got == Processes) != want {
			t.Errorf("%s: %v", line, got)
		}
		if !MayReadOwners(args[0]) {
			t.Errorf("%s: not asked for", line)
		}
	}
	for _, file := range []string{"/usr/bin/git", "git-upload-pack", "tmux", "/usr/bin/screen", "emacs-gtk", "pulseaudio"} {
		if args := []string{file, "x"}; SightOf(file, args, true) != Owners || SightOf(file, args, false) != Plain || !MayReadOwners(file) {
			t.Errorf("%s has to see its user's files as that one's, and as root those of root", file)
		}
	}
}
