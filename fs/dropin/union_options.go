package dropin

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"mica/cow"
)

// option is one option of the list after -o.
type option struct {
	key, value string
	given      bool // it has a value, perhaps an empty one
}

// on tells whether an option that is a switch is on.
func (o option) on() bool { return !o.given || o.value == "1" }

func (o option) number() (uint32, error) {
	n, err := strconv.ParseUint(o.value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("option %s=%s: want a number", o.key, o.value)
	}
	return uint32(n), nil
}

// unknown is the error of a value that is not what is wanted.
func (o option) unknown(want string) error {
	return fmt.Errorf("option %s=%s: want %s", o.key, o.value, want)
}

// unionOptions are the options that concern the union and its server.
var unionOptions = map[string]func(p *parser, o option) error{
	"lowerdir": func(p *parser, o option) error {
		p.lowers = append(p.lowers, splitLowers(o.value)...)
		return nil
	},
	"upperdir":          set(func(p *parser, o option) { p.inv.Union.Upper = unescape(o.value) }),
	"workdir":           set(func(p *parser, o option) { p.inv.Union.Work = unescape(o.value) }),
	"uidmapping":        func(p *parser, o option) (err error) { p.uids, err = parseRanges(o.key, o.value); return err },
	"gidmapping":        func(p *parser, o option) (err error) { p.gids, err = parseRanges(o.key, o.value); return err },
	"squash_to_root":    set(func(p *parser, _ option) { p.squashRoot = true }),
	"squash_to_uid":     func(p *parser, o option) error { return squash(&p.squashUID, o) },
	"squash_to_gid":     func(p *parser, o option) error { return squash(&p.squashGID, o) },
	"timeout":           (*parser).timeout,
	"writeback":         set(func(p *parser, o option) { p.inv.Serve.Writeback = o.on() }),
	"passthrough":       set(func(p *parser, o option) { p.inv.Serve.Passthrough = o.on() }),
	"volatile":          set(func(p *parser, _ option) { p.inv.Union.Volatile = true }),
	"fsync":             set(func(p *parser, o option) { p.noSync = o.value == "0" }),
	"sync":              set(func(p *parser, o option) { p.noSync = o.value == "0" }),
	"noxattrs":          set(func(p *parser, o option) { p.inv.Serve.NoXattrs = o.on() }),
	"static_nlink":      set(func(p *parser, _ option) { p.inv.Union.StaticNlink = true }),
	"xattr_permissions": (*parser).xattrPermissions,
	"owners":            (*parser).ownersOption,
	"copyup":            (*parser).copyUp,
	"redirect_dir":      set(func(p *parser, o option) { p.inv.Union.NoRedirect = o.value != "on" }),
	"stats":             set(func(p *parser, o option) { p.inv.StatsFile = o.value }),
	"catalogs":          set(func(p *parser, o option) { p.inv.Catalogs = o.value }),
	"max_write": func(p *parser, o option) error {
		n, err := o.number()
		p.inv.Serve.MaxWrite = int(n)
		return err
	},
}

// set makes an option of what cannot fail.
func set(do func(p *parser, o option)) func(*parser, option) error {
	return func(p *parser, o option) error {
		do(p, o)
		return nil
	}
}

func squash(id **uint32, o option) error {
	n, err := o.number()
	*id = &n
	return err
}

func (p *parser) timeout(o option) error {
	seconds, err := strconv.ParseFloat(o.value, 64)
	if err != nil || !(seconds >= 0 && seconds <= 1e9) {
		return o.unknown("seconds")
	}
	p.inv.Serve.Timeout = max(time.Duration(seconds*float64(time.Second)), 1)
	return nil
}

func (p *parser) xattrPermissions(o option) error {
	switch o.value {
	case "0":
		p.owners = cow.OwnersReal
	case "2":
		p.owners = cow.OwnersStored
	case "1":
		return errors.New("option xattr_permissions=1: attributes that take privileges are not read here; want 0 or 2")
	default:
		return o.unknown("0 or 2")
	}
	return nil
}

func (p *parser) ownersOption(o option) error {
	switch o.value {
	case "real":
		p.owners = cow.OwnersReal
	case "stored":
		p.owners = cow.OwnersStored
	default:
		return o.unknown("real or stored")
	}
	return nil
}

func (p *parser) copyUp(o option) error {
	switch o.value {
	case "full":
		p.inv.Union.CopyUp = cow.CopyUpFull
	case "blocks":
		p.inv.Union.CopyUp = cow.CopyUpBlocks
	default:
		return o.unknown("full or blocks")
	}
	return nil
}
