package cow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/internal/testenv"
)

func TestParseOrigin(t *testing.T) {
	for _, c := range []struct {
		text string
		want origin
		ok   bool
	}{
		{"1 42 full", origin{ino: 42, state: stateFull}, true},
		{"1 42 meta 0 100 a/b c", origin{42, stateMeta, "", 0, 100, "a/b c"}, true},
		{"1 42 boot=id 3 100 a", origin{42, stateBoot, "id", 3, 100, "a"}, true},
		{"1 42 new=id 3 100 a", origin{42, stateNew, "id", 3, 100, "a"}, true},
		{"1 42 map=id 3 100 a", origin{42, stateMap, "id", 3, 100, "a"}, true},
		{"1 18446744073709551615 full", origin{ino: 1<<64 - 1, state: stateFull}, true},
		{text: ""},
		{text: "2 42 full"},
		{text: "1 x full"},
		{text: "1 42"},
		{text: "1 42 half"},
		{text: "1 42 meta"},
		{text: "1 42 meta=id 0 100 a"},
		{text: "1 42 map 0 100 a"},
		{text: "1 42 map=id 0 100"},
		{text: "1 42 map=id 0 100 "},
		{text: "1 42 map=id -1 100 a"},
		{text: "1 42 map=id 0 -1 a"},
	} {
		got, err := parseOrigin(c.text)
		if (err == nil) != c.ok || c.ok && got != c.want {
			t.Errorf("%q: %+v, %v; want %+v, ok %v", c.text, got, err, c.want, c.ok)
		}
		if c.ok && got.String() != c.text {
			t.Errorf("%q is written as %q", c.text, got)
		}
	}
}

// FuzzParseOrigin: what is understood is written as something of the same
// meaning.
func FuzzParseOrigin(f *testing.F) {
	for _, s := range []string{"1 42 full", "1 42 meta 0 100 a/b c", "1 42 boot=id 3 100 a", "1 42 map=id=x 3 100 a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOrigin(text)
		if err != nil {
			return
		}
		again, err := parseOrigin(o.String())
		if o.state == stateFull {
			o.arg = again.arg
		}
		if err != nil || again != o {
			t.Fatalf("%q means %+v, whose form %q means %+v, %v", text, o, o, again, err)
		}
	})
}

// FuzzBlockMap: a map file of any content is refused, or describes a file
// within its bounds.
func FuzzBlockMap(f *testing.F) {
	valid := make([]byte, mapHeader+2*8)
	binary.LittleEndian.PutUint64(valid, mapMagic)
	binary.LittleEndian.PutUint64(valid[8:], 12)
	binary.LittleEndian.PutUint64(valid[16:], 40)
	f.Add(valid, int64(7))
	f.Add(valid[:100], int64(0))
	f.Add(make([]byte, 200), int64(0))
	f.Fuzz(func(t *testing.T, content []byte, block int64) {
		fd, err := unix.MemfdCreate("map", 0)
		must(t, err)
		defer unix.Close(fd)
		must(t, sys.PwriteFull(fd, content, 0))
		for _, writable := range []bool{false, true} {
			m, err := attachMap(fd, "id", "boot", writable)
			if err != nil {
				continue
			}
			block &= 1<<40 - 1
			_ = m.has(block)
			if end, _ := m.run(0, m.n); m.n > 0 && (end < 1 || end > m.n) {
				t.Fatalf("a run of %d of %d blocks", end, m.n)
			}
			if writable {
				m.set(block, block+1)
				if block < m.n && !m.has(block) {
					t.Fatalf("block %d of %d was not set", block, m.n)
				}
			}
			m.close()
		}
	})
}

// TestBadRecords: records that nobody understands are errors, not guesses.
func TestBadRecords(t *testing.T) {
	for name, c := range map[string]struct {
		attr, value string
		want        error
	}{
		"origin":              {originXattr, "nonsense", nil},
		"layer that is not":   {originXattr, "1 42 meta 7 100 file", unix.EIO},
		"the upper as layer":  {originXattr, "1 42 meta 1 4 file", unix.EIO},
		"lower that is not":   {originXattr, "1 42 meta 0 100 other", unix.ENOENT},
		"lower outside":       {originXattr, "1 42 meta 0 100 ../lower0/file", unix.EXDEV},
		"lower changed":       {originXattr, "1 42 meta 0 5 file", unix.EIO},
		"map that is not":     {originXattr, "1 42 map=absent 0 4 file", unix.EIO},
		"owners":              {ondisk.OverrideXattr, "nonsense", nil},
		"link count":          {nlinkXattr, "many", nil},
		"redirect up":         {redirectXattr, "../x", nil},
		"redirect absolute":   {redirectXattr, "/x", nil},
		"redirect to nothing": {redirectXattr, "nowhere", nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := layers(t, tree{"file": "text", "dir/": ""})
			(tree{"file": "text", "dir/": "", "good": "good"}).write(t, cfg.Upper)
			path := "file"
			if c.attr == redirectXattr {
				path = "dir"
			}
			must(t, unix.Setxattr(filepath.Join(cfg.Upper, path), c.attr, []byte(c.value), 0))
			u := open(t, cfg)
			err := u.with(path, func(*Node) error { return nil })
			if err == nil {
				t.Fatal("no error")
			}
			if c.want != nil && sys.Errno(err) != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
			if text := u.content("good"); text != "good" {
				t.Errorf("another file: %q", text)
			}
		})
	}
}

func TestACL(t *testing.T) {
	const none = 1<<32 - 1
	named := acl{{aclUserObj, 6, none}, {aclUser, 7, 1000}, {aclGroupObj, 4, none}, {aclMask, 6, none}, {aclOther, 4, none}}
	plain := acl{{aclUserObj, 6, none}, {aclGroupObj, 4, none}, {aclOther, 0, none}}
	for _, a := range []acl{named, plain} {
		got, err := parseACL(a.bytes())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(a) {
			t.Errorf("%v is read as %v, %v", a, got, err)
		}
	}
	for name, bad := range map[string]acl{
		"nobody":        {},
		"no other":      named[:4],
		"no mask":       {named[0], named[1], named[2], named[4]},
		"owner twice":   {named[0], named[0], named[2], named[4]},
		"unknown tag":   {named[0], {0x40, 7, none}, named[2], named[4]},
		"permission 8":  {{aclUserObj, 8, none}, named[2], named[4]},
		"two tags once": {{aclUserObj | aclOther, 7, none}, named[0], named[2], named[4]},
	} {
		if got, err := parseACL(bad.bytes()); err != unix.EINVAL {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := parseACL(named.bytes()[:10]); err != unix.EINVAL {
		t.Errorf("cut off: %v", err)
	}
	for _, c := range []struct {
		a          acl
		before     uint32
		mode, then uint32 // of the ACL; after chmod(before)
		group      uint16 // the owning group's permissions after chmod
	}{
		{named, 0o751, 0o664, 0o751, 4}, // the mask takes the group's bits
		{plain, 0o751, 0o640, 0o751, 5},
	} {
		if got := c.a.applyTo(0o4777); got != 0o4000|c.mode {
			t.Errorf("mode of %v: %o, want %o", c.a, got, 0o4000|c.mode)
		}
		a := append(acl(nil), c.a...)
		a.chmod(c.before, false)
		if got := a.applyTo(0); got != c.then {
			t.Errorf("mode after chmod %o: %o", c.before, got)
		}
		for _, e := range a {
			if e.tag == aclGroupObj && e.perm != c.group {
				t.Errorf("the owning group has %o after chmod %o, want %o", e.perm, c.before, c.group)
			}
		}
	}
	// inherit narrows the default ACL to the mode that was asked for.
	o := ondisk.Object{Meta: ondisk.Meta{Mode: unix.S_IFDIR | 0o750}}
	must(t, named.inherit(&o))
	if o.Perm() != 0o640 || string(o.Xattrs[defaultACL]) != string(named.bytes()) {
		t.Errorf("inherited mode %o, attributes %v", o.Perm(), o.Xattrs)
	}
	o = ondisk.Object{Meta: ondisk.Meta{Mode: unix.S_IFREG | 0o666}}
	must(t, plain.inherit(&o))
	if o.Perm() != 0o640 || len(o.Xattrs) != 0 {
		t.Errorf("inherited mode %o, attributes %v", o.Perm(), o.Xattrs)
	}
}

// FuzzParseACL: what is accepted is written back as it was.
func FuzzParseACL(f *testing.F) {
	f.Add(acl{{aclUserObj, 6, 0}, {aclGroupObj, 4, 0}, {aclOther, 0, 0}}.bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := parseACL(raw)
		if err != nil {
			return
		}
		if string(a.bytes()) != string(raw) {
			t.Fatalf("%x is written as %x", raw, a.bytes())
		}
		mode := a.applyTo(0)
		a.chmod(mode, false)
		if got := a.applyTo(0); got != mode || mode&^0o777 != 0 {
			t.Fatalf("mode %o became %o", mode, got)
		}
	})
}

// TestPrivateAttributes: the union's own records can be neither seen nor set.
func TestPrivateAttributes(t *testing.T) {
	for _, owners := range []OwnersMode{OwnersStored, OwnersReal} {
		cfg := layers(t, tree{"file": "text"})
		cfg.UpperOwners, cfg.Lowers[0].Owners = owners, owners
		u := open(t, cfg)
		must(t, u.chmod("file", 0o600))
		must(t, u.with("file", func(n *Node) error {
			names, err := u.Listxattr(n)
			if err != nil || len(names) > 0 {
				t.Errorf("owners %d: seen: %q, %v", owners, names, err)
			}
			for _, name := range []string{originXattr, ondisk.OverrideXattr, "user.overlay.opaque", "user.mica.x.security.capability"} {
				forged := []byte("1 1 full")
				err := u.Setxattr(n, name, forged, 0, false)
				onDisk := make([]byte, 4096)
				size, _ := unix.Getxattr(filepath.Join(cfg.Upper, "file"), name, onDisk)
				if string(onDisk[:max(size, 0)]) == string(forged) {
					t.Errorf("owners %d: %s was forged", owners, name)
				}
				if err != nil {
					t.Errorf("owners %d: %s cannot be kept apart: %v", owners, name, err)
				}
			}
			return nil
		}))
		u.reopen()
		if mode := u.attr("file").Mode; mode != unix.S_IFREG|0o600 {
			t.Errorf("owners %d: mode %o", owners, mode)
		}
	}
}

// TestRefused: what no disk has to be asked about is refused without a trace.
func TestRefused(t *testing.T) {
	u := open(t, layers(t, tree{"file": "text", "dir/": ""}))
	long := string(make([]byte, nameMax+1))
	for name, c := range map[string]struct {
		err  error
		want unix.Errno
	}{
		"look up a long name":     {u.with(long, func(*Node) error { return nil }), unix.ENAMETOOLONG},
		"make a long name":        {u.mkdir(long), unix.ENAMETOOLONG},
		"make a whiteout":         {u.mkdir(".wh.x"), unix.EPERM},
		"rename to a whiteout":    {u.rename("file", ".wh.x", 0), unix.EPERM},
		"link as a whiteout":      {u.link("file", ".wh.x"), unix.EPERM},
		"make what is there":      {u.mkdir("dir"), unix.EEXIST},
		"remove what is not":      {u.unlink("x"), unix.ENOENT},
		"unlink a directory":      {u.unlink("dir"), unix.EISDIR},
		"rmdir a file":            {u.rmdir("file"), unix.ENOTDIR},
		"rename into itself":      {u.rename("dir", "dir/x", 0), unix.EINVAL},
		"rename a file over dir":  {u.rename("file", "dir", 0), unix.EISDIR},
		"rename a dir over file":  {u.rename("dir", "file", 0), unix.ENOTDIR},
		"exchange with nothing":   {u.rename("dir", "x", unix.RENAME_EXCHANGE), unix.ENOENT},
		"noreplace what is there": {u.rename("dir", "file", unix.RENAME_NOREPLACE), unix.EEXIST},
		"link a directory":        {u.link("dir", "x"), unix.EPERM},
		"a negative size":         {u.truncate("file", -1), unix.EINVAL},
	} {
		if c.err != c.want {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if entries, err := os.ReadDir(u.cfg.Upper); err != nil || len(entries) > 0 {
		t.Errorf("refused calls left %v in the upper", entries)
	}
}

// TestUpperAsLayer: an upper whose files may be incomplete is no layer; one
// that was made for other programs is.
func TestUpperAsLayer(t *testing.T) {
	for _, full := range []bool{false, true} {
		cfg := layers(t, tree{"large": strings.Repeat("x", 300<<10)})
		if full {
			cfg.CopyUp, cfg.NoRedirect = CopyUpFull, true
		}
		u := open(t, cfg)
		must(t, u.put("large", "new", 0))
		u.close()
		f, err := Open(Config{Lowers: []Lower{{Dir: cfg.Upper}}})
		if err == nil {
			must(t, f.Close())
		}
		if full != (err == nil) || err != nil && !errors.Is(err, errNeedsLayers) {
			t.Errorf("full %v: %v", full, err)
		}
		u.reopen()
		u.close()
	}
}

// TestNoXattrOfSymlink: that a symlink has not what is to be removed is no
// matter of permission.
func TestNoXattrOfSymlink(t *testing.T) {
	cfg := layers(t, tree{})
	tree{"link": "->x"}.write(t, cfg.Upper)
	u := open(t, cfg)
	if err := u.with("link", func(n *Node) error { return u.Removexattr(n, capXattr) }); err != unix.ENODATA {
		t.Errorf("%v, want %v", err, unix.ENODATA)
	}
}

// TestPagesKeepPrivileges: pages that a mapping has changed are written when
// the kernel likes, and take nothing from the file.
func TestPagesKeepPrivileges(t *testing.T) {
	u := open(t, layers(t, tree{"file": "text"}))
	must(t, u.chmod("file", 0o6755))
	must(t, u.with("file", func(n *Node) error {
		must(t, u.Setxattr(n, capXattr, []byte("caps"), 0, false))
		must(t, u.WritePages(n, []byte("new"), 0))
		if _, err := u.Getxattr(n, capXattr, nil); err != nil {
			t.Errorf("capabilities: %v", err)
		}
		must(t, u.Write(n, []byte("again"), 0, true))
		if _, err := u.Getxattr(n, capXattr, nil); err != unix.ENODATA {
			t.Errorf("capabilities after a write: %v", err)
		}
		return nil
	}))
	if a := u.attr("file"); a.Mode&0o7777 != 0o755 || u.content("file") != "again" {
		t.Errorf("mode %o, %q", a.Mode, u.content("file"))
	}
}

// TestPagesKeepRealPrivileges is the same where the disk knows the
// capabilities, and takes them itself. Only root may set such.
func TestPagesKeepRealPrivileges(t *testing.T) {
	caps := []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	cfg := layers(t, tree{"file": "text"})
	cfg.UpperOwners = OwnersReal
	for i := range cfg.Lowers {
		cfg.Lowers[i].Owners = OwnersReal
	}
	u := open(t, cfg)
	must(t, u.with("file", func(n *Node) error {
		err := u.Setxattr(n, capXattr, caps, 0, false)
		if err == unix.EPERM {
			return nil // a plain user's disk holds none to lose
		}
		must(t, err)
		must(t, u.WritePages(n, []byte("new"), 0))
		got := make([]byte, len(caps))
		if _, err := u.Getxattr(n, capXattr, got); err != nil || !bytes.Equal(got, caps) {
			t.Errorf("capabilities after pages: % x, %v", got, err)
		}
		must(t, u.Write(n, []byte("again"), 0, true))
		if _, err := u.Getxattr(n, capXattr, nil); err != unix.ENODATA {
			t.Errorf("capabilities after a write: %v", err)
		}
		return nil
	}))
}

// TestPagesAtOnceKeepRealPrivileges: the kernel hands in pages of one file
// several at a time, and someone may take the capabilities meanwhile.
func TestPagesAtOnceKeepRealPrivileges(t *testing.T) {
	caps := []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	cfg := layers(t, tree{"file": "text"})
	cfg.UpperOwners = OwnersReal
	for i := range cfg.Lowers {
		cfg.Lowers[i].Owners = OwnersReal
	}
	u := open(t, cfg)
	must(t, u.with("file", func(n *Node) error {
		err := u.Setxattr(n, capXattr, caps, 0, false)
		if err == unix.EPERM {
			return nil // a plain user's disk holds none to lose
		}
		must(t, err)
		var all sync.WaitGroup
		for i := range int64(8) {
			all.Go(func() {
				for range 200 {
					if err := u.WritePages(n, make([]byte, 4096), i*4096); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		got := make([]byte, len(caps))
		if _, err := u.Getxattr(n, capXattr, got); err != nil || !bytes.Equal(got, caps) {
			t.Errorf("capabilities after pages: % x, %v", got, err)
		}

		must(t, u.Removexattr(n, capXattr))
		c, err := u.openChanged(n, true, false, false)
		must(t, err)
		defer c.put()
		must(t, u.giveCapsBack(n, c.fd, caps))
		if _, err := sys.GetxattrAll(c.fd, "", capXattr); err != unix.ENODATA {
			t.Errorf("capabilities that were removed during a write: %v", err)
		}
		return nil
	}))
}

// TestPrivilegesGo: what takes the privileges of a file leaves a directory's
// attributes alone, and a write by root to a file with capabilities, which the
// kernel removes before, leaves set-id bits alone; a chown does not, whatever
// was done to the capabilities before.
func TestPrivilegesGo(t *testing.T) {
	caps := []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	size := int64(0)
	for name, c := range map[string]struct {
		path string
		// what the kernel sends first: s(etxattr), g(etxattr) of the size, G of all, r(emovexattr), t(runcation)
		before   string
		set      SetAttr
		wantMode uint32
		wantCaps bool
	}{
		"chown of a directory":               {"dir", "s", SetAttr{UID: new(uint32)}, 0o6755, true},
		"chown of a file":                    {"file", "s", SetAttr{UID: new(uint32)}, 0o6755, false},
		"chown by somebody":                  {"file", "s", SetAttr{UID: new(uint32), Kill: true}, 0o755, false},
		"write by root":                      {"file", "sggr", SetAttr{KillPriv: true}, 0o6755, false},
		"chown that changes none":            {"file", "", SetAttr{KillPriv: true}, 0o755, false},
		"write by an outsider":               {"file", "", SetAttr{KillPriv: true, KillGroup: true}, 0o755, false},
		"chown that changes none takes both": {"file", "sgr", SetAttr{KillPriv: true}, 0o755, false},
		"chown after getxattr":               {"file", "sgGgr", SetAttr{KillPriv: true}, 0o755, false},
		"chown after removexattr":            {"file", "sr", SetAttr{KillPriv: true}, 0o755, false},
		"chown after a truncation":           {"file", "sggrt", SetAttr{KillPriv: true}, 0o755, false},
		"chown of new ones after a write":    {"file", "sggrsgr", SetAttr{KillPriv: true}, 0o755, false},
		"write of new ones after a write":    {"file", "sggrsggr", SetAttr{KillPriv: true}, 0o6755, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := open(t, layers(t, tree{"file": "text", "dir/": ""}))
			must(t, u.chmod(c.path, 0o6755))
			must(t, u.with(c.path, func(n *Node) error {
				for _, step := range c.before {
					switch step {
					case 's':
						must(t, u.Setxattr(n, capXattr, caps, 0, false))
					case 'g':
						_, err := u.Getxattr(n, capXattr, nil)
						must(t, err)
					case 'G':
						_, err := u.Getxattr(n, capXattr, make([]byte, 20))
						must(t, err)
					case 'r':
						must(t, u.Removexattr(n, capXattr))
					case 't':
						must(t, u.Setattr(n, SetAttr{Size: &size}, nil))
					}
				}
				must(t, u.Setattr(n, c.set, nil))
				size, err := u.Getxattr(n, capXattr, nil)
				if has := err == nil && size == len(caps); has != c.wantCaps {
					t.Errorf("capabilities %v (%v), want %v", has, err, c.wantCaps)
				}
				return nil
			}))
			if mode := u.attr(c.path).Mode & 0o7777; mode != c.wantMode {
				t.Errorf("mode %o, want %o", mode, c.wantMode)
			}
		})
	}
}

// TestPagesKeepRealBits: the disk takes set-id bits from a file that a process
// without privileges writes to, as the server may be, where the writer keeps
// them: of pages that a mapping has changed, and of a write by root.
func TestPagesKeepRealBits(t *testing.T) {
	cfg := layers(t, tree{"file": "text"})
	cfg.UpperOwners, cfg.Lowers[0].Owners = OwnersReal, OwnersReal
	u := open(t, cfg)
	for mode, want := range map[uint32]uint32{0o6755: 0o755, 0o2755: 0o755, 0o2644: 0o2644} {
		must(t, u.chmod("file", mode))
		for name, write := range map[string]func(n *Node) error{
			"pages":            func(n *Node) error { return u.WritePages(n, []byte("pages"), 0) },
			"write, privilege": func(n *Node) error { return u.Write(n, []byte("write"), 0, false) },
		} {
			must(t, u.with("file", write))
			u.reopen()
			if a := u.attr("file"); a.Mode&0o7777 != mode {
				t.Errorf("%s: mode %o becomes %o", name, mode, a.Mode&0o7777)
			}
		}
		must(t, u.with("file", func(n *Node) error { return u.Write(n, []byte("again"), 0, true) }))
		u.reopen()
		if a := u.attr("file"); a.Mode&0o7777 != want {
			t.Errorf("write without privilege: mode %o becomes %o, want %o", mode, a.Mode&0o7777, want)
		}
	}
}

// TestOlderXattr: whiteouts, records and attributes are found and written as well by the calls that kernels before Linux 6.13
// have, which take a path.
func TestOlderXattr(t *testing.T) {
	testenv.WithoutXattrAt(t, "^Test(ACL|PrivateAttributes|Refused|NoXattrOfSymlink|BadRecords|UpperAsLayer|HardLinks|"+
		"ForeignLinkedSymlink|ForeignWhiteouts|Merge|Shut.*|CheckLinked|SpecialInodes)$")
}
