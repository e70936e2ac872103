package sandbox

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/internal/idcall"
)

// union is a configuration for a command over a union: the host's root below, an empty directory on top. It returns the union, which
// the caller may look at after the end.
func union(t *testing.T, cfg *Config) *cow.FS {
	t.Helper()
	dir := t.TempDir()
	conf := cow.Config{Lowers: []cow.Lower{{Dir: "/", Owners: cow.OwnersReal}}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	for _, d := range []string{conf.Upper, conf.Work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	u, err := cow.Open(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	token, err := idcall.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	root := func(uint32) uint32 { return 0 }
	cfg.Mounts = []Mount{{Kind: MountTmpfs, Target: "/run"}}
	cfg.ReadOnlyRoot = false
	var owner OwnerFunc
	creds := func(tid uint32) (uid, gid uint32, ok bool) { return owner(tid) }
	cfg.Root = Root{
		Token: token, FUSEOptions: "default_permissions,allow_other", Owner: func(o OwnerFunc) { owner = o },
		Server: fs.New(u, fs.Options{Permissions: true, Token: token, Creds: creds, ShowUID: root, ShowGID: root}),
	}
	return u
}

// TestOwners lets the usual programs change owners where there is one id, and compares what they see and what is recorded.
func TestOwners(t *testing.T) {
	const script = `cd /var/tmp && mkdir w && cd w || exit
		touch a; chown 100:42 a; mkdir d; chown -R 7:8 d; ln -s nowhere l; chown -h 5:6 l
		setpriv --reuid 1000 --regid 1001 --clear-groups sh -c 'touch mine; mkdir dir; ln -s x link; chown 0 mine 2>/dev/null || echo refused; chgrp 1001 mine'
		cp -a a copy; tar -cf t a; mkdir x; tar -C x -xpf t; install -o 9 -g 10 -m 4755 /bin/true set; cp -a set set2
		chown 11 set2; stat -c %a set set2
		install -o 12 -g 42 -m 6755 /usr/bin/id id; ./id -u; ./id -g; ./id -ru; ./id -rg; id -u; cd /; var/tmp/w/id -u; cd var/tmp/w
		mknod dev c 5 1; mknod dev2 b 8 3; chown 3:4 dev2; mknod pipe p
		stat -c '%n %u %g %F' a d l mine dir link copy x/a set dev dev2 pipe; find . -user 1000 | sort
		find /usr -maxdepth 2 > /dev/null & p=$!; kill -STOP $p; kill -CONT $p; wait $p; echo $?`
	cfg := oneID(t, sh(script))
	u := union(t, cfg)
	out, _ := output(t, cfg)
	want := []string{
		"refused", "4755", "755", "12", "42", "0", "0", "0", "12",
		"a 100 42 regular empty file", "d 7 8 directory", "l 5 6 symbolic link", "mine 1000 1001 regular empty file", "dir 1000 1001 directory",
		"link 1000 1001 symbolic link", "copy 100 42 regular empty file", "x/a 100 42 regular empty file", "set 9 10 regular file",
		"dev 0 0 character special file", "dev2 3 4 block special file", "pipe 0 0 fifo", "./dir", "./link", "./mine", "0",
	}
	if got := strings.Split(strings.TrimSpace(out), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", out, strings.Join(want, "\n"))
	}
	recorded := map[string]string{}
	err := u.Changes(t.Context(), func(c *cow.Change) error {
		if name, ok := strings.CutPrefix(c.Path, "var/tmp/w/"); ok {
			recorded[name] = fmt.Sprint(c.Meta.UID, " ", c.Meta.GID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, owner := range map[string]string{
		"a": "100 42", "d": "7 8", "l": "5 6", "mine": "1000 1001", "dir": "1000 1001", "link": "1000 1001", "copy": "100 42", "x/a": "100 42",
		"set": "9 10", "set2": "11 10", "dev": "0 0", "dev2": "3 4",
	} {
		if recorded[name] != owner {
			t.Errorf("%s: %q is recorded, want %q", name, recorded[name], owner)
		}
	}
}

// TestLongDeviceNames makes devices with names of any length.
func TestLongDeviceNames(t *testing.T) {
	cfg := oneID(t, sh(`mkdir -m 1777 /var/tmp/w; cd /var/tmp/w; long=$(printf %0255d 0)
		mknod $long c 1 3; chown 5:6 $long; stat -c '%u %g %F' *; mknod $long c 1 3 2>&1 | grep -c exists; mknod ${long}0 c 1 3 2>&1 | grep -c long
		ls -A | wc -l; rm $long; ls -A | wc -l`))
	union(t, cfg)
	out, _ := output(t, cfg)
	if want := "5 6 character special file\n1\n1\n1\n0\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// traced is a command, before another one, that has it see recorded owners.
const traced = "find / -maxdepth 0 -printf '' -exec "

// TestAccess asks what a user may do with files, where the recorded owners are seen.
func TestAccess(t *testing.T) {
	const user = "setpriv --reuid 1000 --regid 1001 --groups 7 "
	cfg := oneID(t, sh(`mkdir /var/tmp/w; cd /var/tmp/w; chmod 1777 .; touch own group supp other all; mkdir dir
		chown 1000:5 own; chmod 640 own; chown 5:1001 group; chgrp 7 supp; chmod 640 group supp; chmod 600 other; chmod 646 all; chmod 755 dir
		cat > try <<'X'
for f in own group supp other all dir; do
	for op in r w x; do test -$op $f && printf $op; done
	printf ' '
done
echo
X
		`+user+traced+`sh try \;; `+traced+`sh try \;`))
	union(t, cfg)
	out, _ := output(t, cfg)
	if want := "rw r r  rw rx \nrw rw rw rw rw rwx \n"; out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// TestSentCredentials sends credentials that the kernel does not know.
func TestSentCredentials(t *testing.T) {
	cfg := oneID(t, sh("setpriv --reuid 1000 --regid 1001 --clear-groups "+traced+commandPath+` send-credentials \;`))
	union(t, cfg)
	cfg.Mounts = append(cfg.Mounts, Mount{Source: executableCopy(), Target: commandPath})
	out, _ := output(t, cfg)
	if want := "1000 1001: ok, 1000 1001 after\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// TestUsersOfProcesses looks for a process by its user.
func TestUsersOfProcesses(t *testing.T) {
	cfg := oneID(t, sh(`setpriv --ruid 33 --euid 44 --regid 34 --clear-groups sleep 1000 & p=$!
		until grep -q sleep /proc/$p/comm; do [ -d /proc/$p ] || exit; done
		ps -o ruid=,euid=,rgid=,comm= -p $p; pgrep -c -u 44; pgrep -c -U 33; pgrep -c -U 44; stat -c '%u %g' /proc/$p /proc/1; ls -ldn /proc/$p | cut -d' ' -f3,4
		test "$(ps -o ignored= -p $p)" = $(awk '/^SigIgn/ { print $2 }' /proc/$p/status); echo $?
		start-stop-daemon -T -u 44 -x $(command -v sleep); echo $?; start-stop-daemon -T -u 45 -x $(command -v sleep); echo $?
		pkill -u 44; echo $?; kill -9 $p 2> /dev/null; wait`))
	out, _ := output(t, cfg)
	want := "33 44 34 sleep 1 1 0 44 34 0 0 44 34 0 0 3 0"
	if got := strings.Join(strings.Fields(out), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRefusedFileCalls makes calls that fail whoever makes them.
func TestRefusedFileCalls(t *testing.T) {
	cfg := oneID(t, self("refused-file-calls"))
	union(t, cfg)
	cfg.Mounts = append(cfg.Mounts, Mount{Source: executableCopy(), Target: commandPath})
	out, _ := output(t, cfg)
	if want := "EINVAL ENOENT EEXIST\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// TestOwnersInVolumes looks at a directory of the host, whose owners cannot be recorded, as several users: what the one user owns belongs to
// whoever looks. Of the other filesystems it does not.
func TestOwnersInVolumes(t *testing.T) {
	const script = `mkdir /vol/d; touch /vol/f
		stat -c '%n %u %g' /vol/d
		setpriv --reuid 1000 --regid 1001 --clear-groups sh -c 'cd /vol; stat -c "%n %u %g" d f; mkdir e; ls -ldn e | cut -d" " -f3,4; find . -user 1000 | wc -l; tar -cf - d | tar -tv --numeric-owner | cut -d" " -f2'
		setpriv --reuid 1000 --regid 1001 --clear-groups sh -c 'touch /dev/shm/f; stat -c "%n %u %g" /dev/shm/f'
		setpriv --reuid 7 --regid 0 --clear-groups stat -c '%n %u %g' /vol/e / /proc/1 /dev/null
		chown 5 /vol/f; stat -c '%n %u %g' /vol/f`
	cfg := oneID(t, sh(script))
	union(t, cfg)
	cfg.Mounts = append(cfg.Mounts, Mount{Kind: MountBind, Source: t.TempDir(), Target: "/vol"})
	out, _ := output(t, cfg)
	want := []string{
		"/vol/d 0 0", "d 1000 1001", "f 1000 1001", "1000 1001", "4", "1000/1001", "/dev/shm/f 1000 1001",
		"/vol/e 7 0", "/ 0 0", "/proc/1 0 0", "/dev/null 65534 65534", "/vol/f 0 0",
	}
	if got := strings.Split(strings.TrimSpace(out), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", out, strings.Join(want, "\n"))
	}
}

// TestOwnersReadOnly: what cannot be written is not given away either, whoever keeps its owners.
func TestOwnersReadOnly(t *testing.T) {
	cfg := oneID(t, sh(`for f in /vol /proc/self/comm /proc/sys /sys/kernel /etc/passwd; do
		chown 5 $f 2>&1 | grep -c Read-only; chown -h 5 $f 2>&1 | grep -c Read-only; done; mknod /new c 1 3 2>&1 | grep -c Read-only; ls /new 2>&1 | wc -l`))
	union(t, cfg)
	cfg.ReadOnlyRoot = true
	cfg.Mounts = append(cfg.Mounts, Mount{Kind: MountBind, Source: t.TempDir(), Target: "/vol", ReadOnly: true})
	out, _ := output(t, cfg)
	if got := strings.Join(strings.Fields(out), " "); got != "1 1 0 0 1 1 1 1 1 1 1 1" {
		t.Errorf("got %s", got)
	}
}

// TestSetID executes set-id programs, below traced programs and without success, and compares what it gives.
func TestSetID(t *testing.T) {
	const sid = "cd /var/tmp; cp /usr/bin/id sid; chown 12:13 sid; chmod 6755 sid; mkdir -m 1777 q; "
	const user = "setpriv --reuid 1000 --regid 1000 --clear-groups "
	for name, c := range map[string]struct{ script, want string }{
		"below a program that reads owners": {
			user + `find / -maxdepth 0 -printf '' -exec ./sid -u \; -exec ./sid -g \;; id -u`, "12 13 0",
		},
		"no_new_privs": {
			user + "setpriv --no-new-privs ./sid -u; " + user + `find / -maxdepth 0 -printf '' -exec setpriv --no-new-privs ./sid -u \;; ` +
				user + `find / -maxdepth 0 -printf '' -exec setpriv --dump \; | grep no_new; setpriv --no-new-privs setpriv --dump | grep no_new`,
			"1000 1000 no_new_privs: 0 no_new_privs: 1",
		},
		"refused":                   {user + commandPath + " refused-set-id", "E2BIG 1000:1000 1000"},
		"refused in what is traced": {user + `find / -maxdepth 0 -printf '' -exec ` + commandPath + ` refused-set-id \;`, "E2BIG 1000:1000 1000"},
		"capabilities of a file": {
			"cp /usr/bin/setpriv become; " + commandPath + " give-setuid become; " + user + "./become --reuid 0 id -u; " +
				user + "setpriv --no-new-privs ./become --reuid 0 id -u 2>/dev/null || echo refused; " +
				user + `find / -maxdepth 0 -printf '' -exec ./become --reuid 0 id -u \;; ` +
				"setpriv --bounding-set=-setuid ./become --reuid 5 id -u 2>/dev/null || echo refused",
			"0 refused 0 refused",
		},
		"bounding set, securebits, ambient capabilities": {
			"cd q; touch f g; setpriv --bounding-set=-chown chown 5 f 2>/dev/null; setpriv --securebits=+noroot chown 6 f 2>/dev/null; stat -c %u f; " +
				user + "--inh-caps=+chown --ambient-caps=+chown sh -c 'chown 7 g'; stat -c %u g",
			"0 7",
		},
		"set-gid bits for groups that one is not in": {
			"cd q; touch own foreign given; chown 1000:1000 own; chown 1000:5 foreign given; " + user + "chmod 2755 own foreign; " +
				"mkdir d; chmod 3777 d; chgrp 5 d; " + user + "install -m 6755 /bin/true d/file; " +
				"setpriv --reuid 1000 --regid 1000 --groups 5 chmod 2755 given; stat -c %a own foreign given d/file; chmod g+s foreign; stat -c %a foreign",
			"2755 755 2755 4755 2755",
		},
		"the tracer cannot be hit": {
			`trap '' TERM; touch f; chown 5:6 f; stat -c %u f; setpriv --reuid 1000 sh -c 'trap : TERM; kill -TERM -1'; stat -c %u f; cp -a f g; stat -c %u g`,
			"5 5 5",
		},
	} {
		cfg := oneID(t, sh(sid+c.script))
		union(t, cfg)
		cfg.Mounts = append(cfg.Mounts, Mount{Source: executableCopy(), Target: commandPath})
		out, _ := output(t, cfg)
		if got := strings.Join(strings.Fields(out), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestOwnersInPIDNamespace looks at owners from a pid namespace inside of the sandbox's.
func TestOwnersInPIDNamespace(t *testing.T) {
	cfg := oneID(t, sh("cd /var/tmp; touch a; chown 5:6 a; unshare -p -f sh -c 'cp -a a b; stat -c %u:%g a b'"))
	union(t, cfg)
	cfg.Caps = Caps{Add: []string{"SYS_ADMIN"}}
	if out, _ := output(t, cfg); out != "5:6\n5:6\n" {
		t.Errorf("got %q", out)
	}
}

func init() {
	// give-setuid gives a file the capability, as setcap(8) would.
	commands["give-setuid"] = func(args []string) error {
		caps := []uint32{0x02000001, 1 << unix.CAP_SETUID, 0, 0, 0} // VFS_CAP_REVISION_2, effective
		value, err := binary.Append(nil, binary.LittleEndian, caps)
		if err != nil {
			return err
		}
		return unix.Setxattr(args[0], "security.capability", value, 0)
	}
	// send-credentials sends its own over a socket.
	commands["send-credentials"] = func([]string) error {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
		who := unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()), Uid: uid, Gid: gid})
		err = unix.Sendmsg(pair[0], []byte{0}, who, nil, unix.MSG_NOSIGNAL)
		after := who[unix.SizeofCmsghdr+4:]
		fmt.Printf("%d %d: %s, %d %d after\n", uid, gid, errnoName(err), binary.NativeEndian.Uint32(after), binary.NativeEndian.Uint32(after[4:]))
		return nil
	}
	commands["refused-file-calls"] = func([]string) error {
		flags := unix.Fchownat(unix.AT_FDCWD, "/var/tmp", 0, 0, 4)
		absent, there := unix.Mknod("/var/tmp/none/", unix.S_IFCHR|0o600, 259), unix.Mknod("/var/tmp/", unix.S_IFCHR|0o600, 259)
		fmt.Println(errnoName(flags), errnoName(absent), errnoName(there))
		return nil
	}
	// refused-set-id makes a file and starts a program once a set-id program could not be executed.
	commands["refused-set-id"] = func([]string) error {
		const made = "/var/tmp/q/made"
		fmt.Println(errnoName(unix.Exec("/var/tmp/sid", []string{"sid", strings.Repeat("x", 300_000)}, nil)))
		if err := os.WriteFile(made, nil, 0o600); err != nil {
			return err
		}
		for _, command := range []string{"stat -c %u:%g " + made, "id -u"} {
			out, err := exec.Command("sh", "-c", command).Output()
			if err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
			fmt.Print(string(out))
		}
		return nil
	}
}
