package whiteout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user, who may make 0:0 devices.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestParseName(t *testing.T) {
	for _, c := range []struct {
		name   string
		mark   Mark
		target string
	}{
		{"file", None, ""},
		{".wh", None, ""},
		{"wh.file", None, ""},
		{".WH.file", None, ""},
		{"a.wh.file", None, ""},
		{".wh.file", Delete, "file"},
		{".wh..", Delete, "."},
		{".wh..file", Delete, ".file"},
		{".wh..wh.", Meta, ""},
		{".wh..wh..opq", Opaque, ""},
		{".wh..wh..opqx", Meta, ""},
		{".wh..wh.plnk", Meta, ""},
		{".wh..wh.aufs", Meta, ""},
		{".wh.", Meta, ""},
	} {
		mark, target := ParseName(c.name)
		if mark != c.mark || target != c.target {
			t.Errorf("%q: %v %q, want %v %q", c.name, mark, target, c.mark, c.target)
		}
	}
}

// FuzzParseName: a whiteout of a name that is no mark itself is read as one of
// that name, and nothing else deletes.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"", "a", ".wh.a", OpaqueName, ".wh..wh.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		mark, target := ParseName(name)
		if (mark == Delete) != (target != "") || mark == Delete && DeleteName(target) != name {
			t.Fatalf("%q: %v %q", name, mark, target)
		}
		if mark == None && name != "" && !strings.HasPrefix(DeleteName(name), metaPrefix) {
			if mark, target := ParseName(DeleteName(name)); mark != Delete || target != name {
				t.Fatalf("%q: %v %q", DeleteName(name), mark, target)
			}
		}
	})
}

// dir makes a directory and opens it.
func dir(t *testing.T) (path string, fd int) {
	t.Helper()
	path = t.TempDir()
	fd, err := sys.OpenDir(unix.AT_FDCWD, path)
	must(t, err)
	t.Cleanup(func() { sys.Close(fd) })
	return path, fd
}

func TestReadDir(t *testing.T) {
	for _, c := range []struct {
		attr, value string
		want        DirMarks
	}{
		{"user.other", "y", DirMarks{}},
		{UserOpaque, "y", DirMarks{Opaque: true}},
		{UserOpaque, "x", DirMarks{Xattr: true}},
		{UserOpaque, "n", DirMarks{}},
		{UserOpaque, "", DirMarks{}},
		{UserOpaque, "yes, and this is long", DirMarks{}},
		{FuseOpaque, "y", DirMarks{Opaque: true}},
	} {
		path, fd := dir(t)
		must(t, unix.Setxattr(path, c.attr, []byte(c.value), 0))
		if got, err := ReadDir(fd); err != nil || got != c.want {
			t.Errorf("%s=%q: %+v, %v; want %+v", c.attr, c.value, got, err, c.want)
		}
	}
	if _, err := ReadDir(-1); err == nil {
		t.Error("a directory that cannot be read has no marks")
	}
}

func TestXattrWhiteout(t *testing.T) {
	path, fd := dir(t)
	for _, name := range []string{"whiteout", "file"} {
		must(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
	}
	must(t, unix.Setxattr(filepath.Join(path, "whiteout"), userWhiteout, nil, 0))
	for name, want := range map[string]bool{"whiteout": true, "file": false} {
		if got, err := IsXattrWhiteout(fd, name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := IsXattrWhiteout(fd, "absent"); err == nil {
		t.Error("a file that is not there is no whiteout")
	}
}

// TestStyles: what is written is what is read.
func TestStyles(t *testing.T) {
	for name, style := range map[string]Style{"device": Device, "file": File} {
		t.Run(name, func(t *testing.T) {
			path, fd := dir(t)
			must(t, style.Create(fd, "x"))
			var deleted []string
			must(t, sys.List(fd, func(raw []byte, _ uint8, _ uint64) error {
				var st unix.Statx_t
				if err := sys.Stat(fd, string(raw), &st); err != nil {
					return err
				}
				if mark, target := ParseName(string(raw)); mark == Delete {
					deleted = append(deleted, target)
				} else if IsDevice(&st) {
					deleted = append(deleted, string(raw))
				}
				return nil
			}))
			if len(deleted) != 1 || deleted[0] != "x" {
				t.Errorf("deleted: %q", deleted)
			}
			must(t, style.Remove(fd, "x"))
			must(t, style.Remove(fd, "x"))
			if entries, _ := os.ReadDir(path); len(entries) > 0 {
				t.Errorf("left: %v", entries)
			}
			must(t, os.Mkdir(filepath.Join(path, "d"), 0o700))
			must(t, style.SetOpaque(fd, "d"))
			must(t, style.SetOpaque(fd, ""))
			sub, err := sys.OpenDir(fd, "d")
			must(t, err)
			defer sys.Close(sub)
			for _, fd := range []int{fd, sub} {
				if marks, err := ReadDir(fd); err != nil || !marks.Opaque {
					t.Errorf("marked as opaque: %+v, %v", marks, err)
				}
			}
		})
	}
}

func TestProbe(t *testing.T) {
	path, fd := dir(t)
	style, err := Probe(fd)
	must(t, err)
	if style != Device {
		t.Errorf("style %v, though the kernel lets anybody make 0:0 devices", style)
	}
	if entries, _ := os.ReadDir(path); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
	if _, err := Probe(-1); err == nil {
		t.Error("a directory that cannot be written has a style")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
