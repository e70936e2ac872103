package ids

import (
	"path"
	"slices"
	"strings"
)

// Programs that copy the owners of files, or decide by them, see the recorded ones; others see the one user of the sandbox as
// the owner of everything and are not slowed down. For many it depends on their arguments.
var (
	// alwaysRead do so whatever their arguments. Among them are those that are started as root, become another user themselves,
	// and then want files to be that one's.
	alwaysRead = words(`
		mv cpio bsdcpio pax rsync ar mksquashfs mkfs.erofs genisoimage
		dpkg dpkg-deb dpkg-divert dpkg-query dpkg-statoverride rpm rpmbuild apk pacman xbps-install opkg
		useradd usermod userdel groupadd groupmod groupdel groupmems newusers passwd chpasswd gpasswd chgpasswd chage chfn chsh
		vipw vigr pwck grpck pwconv pwunconv grpconv grpunconv adduser addgroup deluser delgroup update-passwd
		systemd-sysusers systemd-tmpfiles
		stat namei getfacl setfacl logrotate gzip gunzip bzip2 xz zstd
		postgres postmaster initdb dovecot crontab cron atd mandb zip unzip
		postfix master exim exim4 sendmail runq tor vsftpd proftpd sftp-server smbd avahi-daemon chronyd polkitd`)

	// checkOwn want files to belong to who runs them. To root, everything does.
	checkOwn = words(`
		git ssh gpg gpgsm gpgconf gpg-agent dirmngr tmux screen fetchmail procmail
		emacs emacsclient vi vim vim.tiny vim.basic vim.nox view vimdiff nvim
		pulseaudio pactl pacmd paplay parec pacat pipewire pipewire-pulse wireplumber
		gdbus gio gsettings dconf
		munged`)

	// readProcesses look at the users of processes, with some arguments or with any (nil).
	readProcesses = map[string]func(args []string) bool{
		"ps": nil, "pgrep": nil, "pkill": nil, "top": nil, "htop": nil, "skill": nil, "snice": nil, "pmap": nil,
		"killall": hasOption("u", "--user"),
		"start-stop-daemon": func(args []string) bool {
			// Not at a start: it would be the daemon that is traced.
			return hasOption("KT", "--stop", "--status")(args) && hasOption("u", "--user")(args)
		},
	}

	// readWith do so with some arguments.
	readWith = map[string]func(args []string) bool{
		"cp":      hasOption("ap", "--archive", "--preserve"),
		"install": hasOption("C", "--compare"),
		"ls":      hasOption("lngo", "--format", "--numeric-uid-gid"),
		"tree":    hasOption("ugp"),
		"chown":   hasOption("cv", "--from", "--reference", "--changes", "--verbose"),
		"chgrp":   hasOption("cv", "--from", "--reference", "--changes", "--verbose"),
		"find":    hasWord("-user", "-uid", "-group", "-gid", "-nouser", "-nogroup", "-ls", "-fls", "-printf", "-fprintf"),
		"test":    hasWord("-O", "-G"),
		"[":       hasWord("-O", "-G"),
		"tar":     writesTar, "gtar": writesTar, "bsdtar": writesTar, "star": writesTar,
	}
)

// itself is the file by which the shell of busybox executes what it is as well.
const itself = "/proc/self/exe"

// Sight is what a program has to see as it is meant.
type Sight byte

// The kinds of sight.
const (
	Plain     Sight = iota // nothing: the kernel's view will do
	Owners                 // the recorded owners of files
	Processes              // those, and the users of processes
)

// SightOf says what a program that is executed with args has to see. switched tells that it does not run as the user that all files seem
// to belong to.
func SightOf(file string, args []string, switched bool) Sight {
	name := path.Base(file)
	switch {
	case file == itself && len(args) > 0:
		name = path.Base(args[0])
	case name == "busybox" || name == "toybox":
		if len(args) < 2 {
			return Plain
		}
		args = args[1:]
		name = path.Base(args[0])
	}
	with := func(f func([]string) bool) bool { return f != nil && len(args) > 0 && f(args[1:]) }
	users, processes := readProcesses[name]
	always, own := byName(name)
	switch {
	case processes && (users == nil || with(users)):
		return Processes
	case always, own && switched, with(readWith[name]):
		return Owners
	}
	return Plain
}

// MayReadOwners says whether the answer of SightOf could be another than Plain. It is cheap.
func MayReadOwners(file string) bool {
	name := path.Base(file)
	always, own := byName(name)
	_, processes := readProcesses[name]
	return always || own || processes || readWith[name] != nil || name == "busybox" || name == "toybox" || file == itself
}

// byName says what the name of a program tells about it: that it always reads owners, or checks its own files.
func byName(name string) (always, own bool) {
	_, always = alwaysRead[name]
	_, own = checkOwn[name]
	return always || strings.HasPrefix(name, "pg_"), own || strings.HasPrefix(name, "emacs-") || strings.HasPrefix(name, "git-")
}

// hasOption finds one of the letters among the short options, or a long one; a long one may have a value.
func hasOption(letters string, long ...string) func([]string) bool {
	return func(args []string) bool {
		for _, a := range args {
			name, _, _ := strings.Cut(a, "=")
			switch {
			case a == "--":
				return false
			case strings.HasPrefix(a, "--"):
				// Options may be shortened.
				if slices.ContainsFunc(long, func(l string) bool { return strings.HasPrefix(l, name) }) {
					return true
				}
			case strings.HasPrefix(a, "-") && strings.ContainsAny(a, letters):
				return true
			}
		}
		return false
	}
}

func hasWord(words ...string) func([]string) bool {
	return func(args []string) bool {
		return slices.ContainsFunc(args, func(a string) bool { return slices.Contains(words, a) })
	}
}

// writesTar says whether a tar program writes or compares an archive. In doubt it does.
func writesTar(args []string) bool {
	if len(args) > 0 {
		if first := strings.TrimPrefix(args[0], "-"); strings.HasPrefix(first, "x") || strings.HasPrefix(first, "t") {
			return false
		}
	}
	return !hasWord("--extract", "--get", "--list")(args)
}

func words(list string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, w := range strings.Fields(list) {
		m[w] = struct{}{}
	}
	return m
}
