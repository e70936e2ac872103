package dropin

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
)

// Invocation is a parsed command line.
type Invocation struct {
	Mountpoint string
	Union      cow.Config
	Serve      fs.Options
	Mount      fs.MountOptions
	Foreground bool
	Debug      bool
	Help       bool
	Version    bool
	StatsFile  string
	Catalogs   string   // directory of the lower directories' catalogs
	Warnings   []string // about options that were passed over
}

// maxLowers is how many lower directories fuse-overlayfs promises to take.
const maxLowers = 500

// lockWait is how long a mount waits for the server of the one before it on
// the same upper: Buildah unmounts and mounts again at once.
const lockWait = 10 * time.Second

// Parse reads the arguments that follow the program's name.
func Parse(args []string) (*Invocation, error) {
	inv := &Invocation{
		Union: cow.Config{CopyUp: cow.CopyUpFull, UpperOwners: cow.OwnersReal, NoRedirect: true},
		Mount: fs.MountOptions{Source: "mica", Subtype: "mica", Permissions: true},
	}
	p := parser{inv: inv, owners: cow.OwnersReal}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-o":
			if i++; i == len(args) {
				return nil, errors.New("option -o needs a value")
			}
			if err := p.options(args[i]); err != nil {
				return nil, err
			}
		case strings.HasPrefix(arg, "-o"):
			if err := p.options(arg[2:]); err != nil {
				return nil, err
			}
		case arg == "-f":
			inv.Foreground = true
		case arg == "-d" || arg == "--debug":
			inv.Debug, inv.Foreground = true, true
		case arg == "-h" || arg == "--help":
			inv.Help = true
		case arg == "-V" || arg == "--version":
			inv.Version = true
		case arg == "-s" || arg == "--":
			// One thread: the order of requests is the same either way.
		case strings.HasPrefix(arg, "-"):
			inv.Warnings = append(inv.Warnings, "unknown argument ignored: "+arg)
		case inv.Mountpoint != "":
			return nil, fmt.Errorf("more than one mountpoint: %q and %q", inv.Mountpoint, arg)
		default:
			inv.Mountpoint = arg
		}
	}
	if inv.Help || inv.Version {
		return inv, nil
	}
	return inv, p.finish()
}

// parser collects what options say together.
type parser struct {
	inv        *Invocation
	lowers     []string
	owners     cow.OwnersMode
	uids, gids []idRange
	squashUID  *uint32
	squashGID  *uint32
	squashRoot bool // where neither of them says otherwise
	noSync     bool
}

// options reads one comma-separated list. A value in double quotes may hold
// commas; a backslash takes the meaning from the next character.
func (p *parser) options(list string) error {
	for _, opt := range splitOptions(list) {
		if opt == "" {
			continue
		}
		o := option{}
		o.key, o.value, o.given = strings.Cut(opt, "=")
		take, ok := unionOptions[o.key]
		if !ok {
			take = (*parser).mountOption
		}
		if err := take(p, o); err != nil {
			return err
		}
	}
	return nil
}

// splitOptions cuts a list at its commas.
func splitOptions(list string) []string {
	var opts []string
	var b strings.Builder
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && i+1 < len(list):
			// Colons keep their backslash for splitLowers.
			if list[i+1] != ',' {
				b.WriteByte(c)
			}
			i++
			b.WriteByte(list[i])
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			opts = append(opts, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(opts, b.String())
}

// splitLowers cuts a list of directories at its colons.
func splitLowers(list string) []string {
	var dirs []string
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && i+1 < len(list):
			i++
			b.WriteByte(list[i])
		case c == ':':
			dirs = append(dirs, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	dirs = append(dirs, b.String())
	kept := dirs[:0]
	for _, d := range dirs {
		if d != "" {
			kept = append(kept, d)
		}
	}
	return kept
}

// unescape takes the backslashes away that protect characters of a path.
func unescape(value string) string {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' && i+1 < len(value) {
			i++
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// mountFlags are the options that are flags of mount(2).
var mountFlags = map[string]struct {
	flag uintptr
	set  bool
}{
	"ro": {unix.MS_RDONLY, true}, "rw": {unix.MS_RDONLY, false},
	"nosuid": {unix.MS_NOSUID, true}, "suid": {unix.MS_NOSUID, false},
	"nodev": {unix.MS_NODEV, true}, "dev": {unix.MS_NODEV, false},
	"noexec": {unix.MS_NOEXEC, true}, "exec": {unix.MS_NOEXEC, false},
	"noatime": {unix.MS_NOATIME, true}, "atime": {unix.MS_NOATIME, false},
	"nodiratime": {unix.MS_NODIRATIME, true}, "diratime": {unix.MS_NODIRATIME, false},
	"private": {0, true},
}

// accepted are options that ask for nothing which mica does not do anyway, or
// which have no meaning for it.
var accepted = map[string]bool{
	"threaded": true, "fast_ino": true, "fast_ino_check": true, "noacl": true, "ino32_t": true,
	"xino": true, "index": true, "metacopy": true, "userxattr": true, "plugins": true,
	"default_permissions": true, "kernel_cache": true, "auto_cache": true, "big_writes": true,
	"splice_read": true, "splice_write": true, "splice_move": true, "no_splice_read": true,
	"no_splice_write": true, "no_splice_move": true, "async_read": true, "nonempty": true,
	// What mount(8) and fstab(5) know.
	"defaults": true, "auto": true, "noauto": true, "user": true, "nouser": true, "users": true, "nofail": true, "_netdev": true,
	"async": true, "relatime": true, "norelatime": true, "strictatime": true, "nostrictatime": true,
	"lazytime": true, "nolazytime": true,
}

// mountOption takes the options that concern the mount alone.
func (p *parser) mountOption(o option) error {
	inv := p.inv
	if f, ok := mountFlags[o.key]; ok {
		inv.Mount.Flags &^= f.flag
		if f.set {
			inv.Mount.Flags |= f.flag
		}
		return nil
	}
	switch o.key {
	case "allow_other":
		inv.Mount.AllowOther = true
	case "allow_root":
		inv.Mount.AllowRoot = true
	case "context":
		inv.Mount.Extra = append(inv.Mount.Extra, `context="`+o.value+`"`)
	case "fsname":
		inv.Mount.Source = o.value
	case "subtype":
		inv.Mount.Subtype = o.value
	case "debug":
		inv.Debug = true
	default:
		if near := misspelt(o.key); near != "" {
			return fmt.Errorf("unknown option %s: do you mean %s?", o.key, near)
		}
		if !accepted[o.key] {
			inv.Warnings = append(inv.Warnings, "unknown option ignored: "+o.key)
		}
	}
	return nil
}

// finish checks what only all options together can tell.
func (p *parser) finish() error {
	inv := p.inv
	switch {
	case inv.Mountpoint == "":
		return errors.New("no mountpoint given")
	case len(p.lowers) == 0:
		return errors.New("no lower directory given: use -o lowerdir=DIR[:DIR...]")
	case len(p.lowers) > maxLowers:
		return fmt.Errorf("%d lower directories given: at most %d are possible", len(p.lowers), maxLowers)
	case inv.Union.Upper != "" && inv.Union.Work == "":
		return errors.New("upperdir needs workdir, a directory on the same filesystem")
	case inv.Serve.Passthrough && inv.Serve.Writeback:
		return errors.New("passthrough and writeback exclude each other: leave one of them out")
	}
	if inv.Serve.Passthrough && !fs.CanPass() {
		inv.Serve.Passthrough = false
		inv.Warnings = append(inv.Warnings, "passthrough is for root outside of user namespaces (CAP_SYS_ADMIN): going on without it")
	}
	for _, dir := range p.lowers {
		inv.Union.Lowers = append(inv.Union.Lowers, cow.Lower{Dir: dir, Owners: p.owners})
	}
	inv.Union.UpperOwners = p.owners
	inv.Union.SkipMount = inv.Mountpoint
	inv.Union.LockWait = lockWait
	inv.Union.NoAtime = inv.Mount.Flags&(unix.MS_NOATIME|unix.MS_RDONLY) != 0
	if inv.Union.Upper == "" {
		inv.Mount.Flags |= unix.MS_RDONLY
	}
	inv.Serve.Permissions = true
	inv.Union.Volatile = inv.Union.Volatile || p.noSync
	if zero := new(uint32); p.squashRoot {
		p.squashUID, p.squashGID = cmp.Or(p.squashUID, zero), cmp.Or(p.squashGID, zero)
	}
	inv.Serve.ShowUID, inv.Serve.StoreUID = mappers(p.uids, p.squashUID)
	inv.Serve.ShowGID, inv.Serve.StoreGID = mappers(p.gids, p.squashGID)
	return nil
}
