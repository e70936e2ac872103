package ondisk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user, to whom all that is on disk belongs.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// types are all that an object can be.
var types = []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFBLK, unix.S_IFCHR}

func randomMeta(rng *rand.Rand) Meta {
	ids := []uint32{0, 1, 1000, 65534, 1 << 31, 1<<32 - 2}
	m := Meta{UID: ids[rng.IntN(len(ids))], GID: ids[rng.IntN(len(ids))], Mode: types[rng.IntN(len(types))] | rng.Uint32N(0o10000)}
	if t := m.Type(); t == unix.S_IFBLK || t == unix.S_IFCHR {
		m.Rdev, _ = Device(rng.Int64N(1<<12), rng.Int64N(1<<20))
	}
	return m
}

// diskType is what carries an object's attributes.
func diskType(m Meta) uint32 {
	if m.Type() == unix.S_IFDIR {
		return unix.S_IFDIR
	}
	return unix.S_IFREG
}

// TestOverrideRoundTrip: what is formatted is read back as it was.
func TestOverrideRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		m := randomMeta(rng)
		got, err := ParseOverride(m.Override(), diskType(m))
		if err != nil || got != m {
			t.Fatalf("%q of %+v is read as %+v, %v", m.Override(), m, got, err)
		}
	}
}

func TestParseOverride(t *testing.T) {
	const file, dir = unix.S_IFREG, unix.S_IFDIR
	for _, c := range []struct {
		value string
		disk  uint32
		want  Meta
		ok    bool
	}{
		{"0:0:0755", file, Meta{Mode: file | 0o755}, true}, // as older writers left it
		{"0:0:0755", dir, Meta{Mode: dir | 0o755}, true},
		{"10:20:04711:file", file, Meta{10, 20, file | 0o4711, 0}, true},
		{"10:20:1777:dir", dir, Meta{10, 20, dir | 0o1777, 0}, true},
		{"0:0:0777:symlink", file, Meta{Mode: unix.S_IFLNK | 0o777}, true},
		{"0:0:0600:block-8-1", file, Meta{Mode: unix.S_IFBLK | 0o600, Rdev: 0x801}, true},
		{"0:0:0600:block-4095-1048575", file, Meta{Mode: unix.S_IFBLK | 0o600, Rdev: 1<<32 - 1}, true},
		{"0:0:0600:block-4096-0", file, Meta{}, false},
		{"0:0:0600:block-0-1048576", file, Meta{}, false},
		{"0:0:0600:char-0-0", file, Meta{Mode: unix.S_IFCHR | 0o600}, true},
		{"4294967295:0:0600:file", file, Meta{UID: 1<<32 - 1, Mode: file | 0o600}, true},
		{"4294967296:0:0600:file", file, Meta{}, false},
		{"-1:0:0600:file", file, Meta{}, false},
		{"", file, Meta{}, false},
		{"0", file, Meta{}, false},
		{"0:0", file, Meta{}, false},
		{"0:0:0999:file", file, Meta{}, false},
		{"0:0:0600:", file, Meta{}, false},
		{"0:0:0600:door", file, Meta{}, false},
		{"0:0:0600:block", file, Meta{}, false},
		{"0:0:0600:block-8", file, Meta{}, false},
		{"0:0:0600:char-a-b", file, Meta{}, false},
		{"0:0:0600:dir", file, Meta{}, false}, // a file cannot become a directory
		{"0:0:0600:file", dir, Meta{}, false}, // nor the reverse
		{"0:0:0600:file\x00", file, Meta{}, false},
	} {
		got, err := ParseOverride(c.value, c.disk)
		if (err == nil) != c.ok || c.ok && got != c.want {
			t.Errorf("%q on %o: %+v, %v; want %+v, ok %v", c.value, c.disk, got, err, c.want, c.ok)
		}
	}
}

// FuzzParseOverride: any value is refused, or means something that formats to
// a value of the same meaning.
func FuzzParseOverride(f *testing.F) {
	for _, s := range []string{"0:0:0755", "1:2:04755:file", "0:0:0700:dir", "0:0:0:char-5-1", "0:0:0:symlink", ":::"} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, value string, onDir bool) {
		disk := uint32(unix.S_IFREG)
		if onDir {
			disk = unix.S_IFDIR
		}
		m, err := ParseOverride(value, disk)
		if err != nil {
			return
		}
		again, err := ParseOverride(m.Override(), disk)
		if err != nil || again != m {
			t.Fatalf("%q means %+v, whose form %q means %+v, %v", value, m, m.Override(), again, err)
		}
		if DiskMode(m)&0o7000 != 0 || DiskMode(m)&0o600 != 0o600 {
			t.Fatalf("mode %o on disk", DiskMode(m))
		}
	})
}

func TestXattrNames(t *testing.T) {
	for _, c := range []struct{ image, stored string }{
		{"user.x", "user.x"},
		{"user.", "user."},
		{"security.capability", "user.mica.x.security.capability"},
		{"trusted.x", "user.mica.x.trusted.x"},
		{"system.posix_acl_access", "user.mica.x.system.posix_acl_access"},
		{"user.mica.x.security.capability", "user.mica.x.user.mica.x.security.capability"},
		{"user.mica.placeholders", "user.mica.x.user.mica.placeholders"},
		{"user.containers.override_stat", "user.mica.x.user.containers.override_stat"},
		{"user.overlay.opaque", "user.mica.x.user.overlay.opaque"},
		{"user.fuseoverlayfs.opaque", "user.mica.x.user.fuseoverlayfs.opaque"},
	} {
		if got := StoredXattr(c.image); got != c.stored {
			t.Errorf("%s is stored as %s, want %s", c.image, got, c.stored)
		}
		if got, ok := ImageXattr(c.stored); !ok || got != c.image {
			t.Errorf("%s is read as %s, %v; want %s", c.stored, got, ok, c.image)
		}
	}
	for _, hidden := range []string{
		"user.containers.override_stat", "user.overlay.opaque", "user.overlay.mica.origin", "user.mica.placeholders",
		"user.fuseoverlayfs.opaque", "trusted.overlay.opaque", "security.selinux", "system.posix_acl_access", "user.mica.x.",
	} {
		if name, ok := ImageXattr(hidden); ok {
			t.Errorf("%s on disk is seen as %s", hidden, name)
		}
	}
}

// TestPlainXattr: where owners are real, the marks of unions are escaped, and nothing else.
func TestPlainXattr(t *testing.T) {
	for image, plain := range map[string]string{
		"user.x": "user.x", "security.capability": "security.capability", "trusted.x": "trusted.x",
		"user.overlay.opaque": "user.overlay.overlay.opaque", "user.overlay.overlay.opaque": "user.overlay.overlay.overlay.opaque",
		"trusted.overlay.redirect": "trusted.overlay.overlay.redirect", "user.overlay.": "user.overlay.overlay.",
		"user.containers.override_stat": "user.mica.x.user.containers.override_stat", "user.mica.x.y": "user.mica.x.user.mica.x.y",
		"user.fuseoverlayfs.opaque": "user.mica.x.user.fuseoverlayfs.opaque", "trusted.mica.x": "user.mica.x.trusted.mica.x",
	} {
		if got := PlainXattr(image); got != plain {
			t.Errorf("%s is kept as %s, want %s", image, got, plain)
		}
		if got, ok := PlainImageXattr(plain); !ok || got != image {
			t.Errorf("%s is read as %s, %v; want %s", plain, got, ok, image)
		}
	}
	for _, hidden := range []string{
		"user.overlay.opaque", "trusted.overlay.opaque", "user.overlay.mica.origin", "user.mica.placeholders", "user.containers.override_stat",
		"user.mica.x.security.capability", "user.mica.x.user.overlay.opaque", "user.mica.x.",
	} {
		if name, ok := PlainImageXattr(hidden); ok {
			t.Errorf("%s on disk is seen as %s", hidden, name)
		}
	}
}

// TestCreateRead: what is made is read back as it was, whatever the disk lets
// a plain user do, and can be removed by them.
func TestCreateRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for i := range 400 {
		path := filepath.Join(t.TempDir(), "d")
		must(t, os.Mkdir(path, 0o700))
		dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		o := Object{Meta: randomMeta(rng)}
		if rng.IntN(3) == 0 {
			o.UID, o.GID = 0, 0
		}
		if o.Type() == unix.S_IFLNK {
			o.Mode, o.Target = unix.S_IFLNK|0o777, strings.Repeat("t/", 1+rng.IntN(2000))
		}
		if rng.IntN(2) == 0 {
			o.Xattrs = map[string][]byte{"user.a": []byte("1"), "security.capability": {1, 0}, "user.overlay.opaque": []byte("y")}
		}
		must(t, Create(dir, "o", o))
		got, st, err := Read(dir, "o")
		must(t, err)
		if got.Meta != o.Meta || got.Target != o.Target || !maps.EqualFunc(got.Xattrs, o.Xattrs, func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Fatalf("%d: made %+v, read %+v", i, o, got)
		}
		if mode := uint32(st.Mode); mode&unix.S_IFMT != unix.S_IFLNK && (mode&0o7000 != 0 || mode&0o600 != 0o600) {
			t.Fatalf("%d: mode %o on disk", i, mode)
		}
		placeholder := uint32(st.Mode)&unix.S_IFMT == unix.S_IFREG && o.Type() != unix.S_IFREG
		marked, err := HasPlaceholders(dir)
		must(t, err)
		if placeholder && !marked {
			t.Fatalf("%d: a placeholder in an unmarked directory", i)
		}
		// Other metadata takes the place of the old, back to the default too.
		next := o.Meta
		next.UID, next.GID, next.Mode = 0, 0, o.Type()|0o755
		if o.Type() != unix.S_IFLNK {
			must(t, SetMeta(dir, "o", next))
			if got, _, err = Read(dir, "o"); err != nil || got.Meta != next {
				t.Fatalf("%d: set %+v, read %+v, %v", i, next, got.Meta, err)
			}
		}
		must(t, unix.Close(dir))
	}
}

// TestCreateLeavesNothing: an object that cannot be made whole is not there.
func TestCreateLeavesNothing(t *testing.T) {
	path := t.TempDir()
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(dir)
	bad := map[string][]byte{"user." + strings.Repeat("n", 300): nil}
	for _, typ := range types {
		if err := Create(dir, "o", Object{Meta: Meta{Mode: typ | 0o700}, Target: "t", Xattrs: bad}); err == nil {
			t.Errorf("type %o: no error", typ)
		}
	}
	if entries, _ := os.ReadDir(path); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
	must(t, os.WriteFile(filepath.Join(path, "o"), []byte("mine"), 0o600))
	for _, typ := range types {
		if err := Create(dir, "o", Object{Meta: Meta{Mode: typ | 0o700}, Target: "t"}); err != unix.EEXIST {
			t.Errorf("type %o over a file: %v", typ, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(path, "o")); string(text) != "mine" {
		t.Errorf("the file that was there: %q, %v", text, err)
	}
}

// TestReadBad: what cannot be understood is an error, never a guess.
func TestReadBad(t *testing.T) {
	path := t.TempDir()
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(dir)
	for i, value := range []string{"nonsense", "0:0:0600:dir", strings.Repeat("0", 200)} {
		name := fmt.Sprint(i)
		must(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
		must(t, unix.Setxattr(filepath.Join(path, name), OverrideXattr, []byte(value), 0))
		if o, _, err := Read(dir, name); err == nil {
			t.Errorf("%q is read as %+v", value, o)
		}
	}
	long := filepath.Join(path, "long")
	must(t, os.WriteFile(long, make([]byte, maxTarget+1), 0o600))
	must(t, unix.Setxattr(long, OverrideXattr, []byte("0:0:0777:symlink"), 0))
	if _, _, err := Read(dir, "long"); err != unix.ENAMETOOLONG {
		t.Errorf("a target of %d bytes: %v", maxTarget+1, err)
	}
}

func TestPlain(t *testing.T) {
	for _, c := range []struct {
		m    Meta
		want bool
	}{
		{Meta{Mode: unix.S_IFREG | 0o644}, true},
		{Meta{Mode: unix.S_IFREG | 0o444}, false}, // the owner on disk must be able to write
		{Meta{Mode: unix.S_IFREG | 0o4755}, false},
		{Meta{Mode: unix.S_IFDIR | 0o755}, true},
		{Meta{Mode: unix.S_IFDIR | 0o1777}, false},
		{Meta{Mode: unix.S_IFDIR | 0o655}, false},
		{Meta{Mode: unix.S_IFLNK | 0o777}, true},
		{Meta{Mode: unix.S_IFIFO | 0o644}, false},
		{Meta{GID: 5, Mode: unix.S_IFREG | 0o644}, false},
	} {
		if c.m.Plain() != c.want {
			t.Errorf("%+v: plain is %v", c.m, !c.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
