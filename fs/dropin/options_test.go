package dropin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
)

// base are the least arguments that there can be.
const base = "lowerdir=/l"

// parse reads one option list, with a mountpoint behind it.
func parse(t *testing.T, list string) *Invocation {
	t.Helper()
	inv, err := Parse([]string{"-o", list, "/m"})
	if err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	return inv
}

func lowers(inv *Invocation) (dirs []string) {
	for _, l := range inv.Union.Lowers {
		dirs = append(dirs, l.Dir)
	}
	return dirs
}

// TestDefaults: without options the upper is what other programs can read, as
// that of fuse-overlayfs is.
func TestDefaults(t *testing.T) {
	inv := parse(t, "lowerdir=/a:/b,upperdir=/u,workdir=/w")
	u := inv.Union
	if u.CopyUp != cow.CopyUpFull || !u.NoRedirect || u.UpperOwners != cow.OwnersReal || u.Lowers[0].Owners != cow.OwnersReal || u.Volatile {
		t.Errorf("union: %+v", u)
	}
	if u.Upper != "/u" || u.Work != "/w" || inv.Mountpoint != "/m" || u.SkipMount != "/m" || !slices.Equal(lowers(inv), []string{"/a", "/b"}) {
		t.Errorf("directories: %+v", inv)
	}
	if inv.Foreground || inv.Debug || inv.Mount.Flags != 0 || inv.Mount.AllowOther || !inv.Serve.Permissions || len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
	if inv := parse(t, base); inv.Mount.Flags != unix.MS_RDONLY {
		t.Errorf("without an upper the mount has flags %#x, want MS_RDONLY", inv.Mount.Flags)
	}
}

// TestOptions: what each option does.
func TestOptions(t *testing.T) {
	upper := base + ",upperdir=/u,workdir=/w"
	for list, ok := range map[string]func(inv *Invocation) bool{
		"volatile":             func(inv *Invocation) bool { return inv.Union.Volatile },
		"fsync=0":              func(inv *Invocation) bool { return inv.Union.Volatile },
		"sync=0":               func(inv *Invocation) bool { return inv.Union.Volatile },
		"fsync=1":              func(inv *Invocation) bool { return !inv.Union.Volatile },
		"volatile,fsync=1":     func(inv *Invocation) bool { return inv.Union.Volatile },
		"timeout=0":            func(inv *Invocation) bool { return inv.Serve.Timeout > 0 && inv.Serve.Timeout < time.Millisecond },
		"timeout=1.5":          func(inv *Invocation) bool { return inv.Serve.Timeout == 1500*time.Millisecond },
		"writeback=1":          func(inv *Invocation) bool { return inv.Serve.Writeback },
		"writeback=0":          func(inv *Invocation) bool { return !inv.Serve.Writeback },
		"writeback":            func(inv *Invocation) bool { return inv.Serve.Writeback },
		"passthrough=0":        func(inv *Invocation) bool { return !inv.Serve.Passthrough && len(inv.Warnings) == 0 },
		"noxattrs=1":           func(inv *Invocation) bool { return inv.Serve.NoXattrs },
		"noxattrs=0":           func(inv *Invocation) bool { return !inv.Serve.NoXattrs },
		"static_nlink":         func(inv *Invocation) bool { return inv.Union.StaticNlink },
		"xattr_permissions=0":  func(inv *Invocation) bool { return inv.Union.UpperOwners == cow.OwnersReal },
		"xattr_permissions=2":  func(inv *Invocation) bool { return inv.Union.Lowers[0].Owners == cow.OwnersStored },
		"owners=stored":        func(inv *Invocation) bool { return inv.Union.UpperOwners == cow.OwnersStored },
		"copyup=blocks":        func(inv *Invocation) bool { return inv.Union.CopyUp == cow.CopyUpBlocks },
		"copyup=full":          func(inv *Invocation) bool { return inv.Union.CopyUp == cow.CopyUpFull },
		"redirect_dir=on":      func(inv *Invocation) bool { return !inv.Union.NoRedirect },
		"redirect_dir=off":     func(inv *Invocation) bool { return inv.Union.NoRedirect },
		"redirect_dir=follow":  func(inv *Invocation) bool { return inv.Union.NoRedirect },
		"stats=/tmp/s":         func(inv *Invocation) bool { return inv.StatsFile == "/tmp/s" },
		"max_write=65536":      func(inv *Invocation) bool { return inv.Serve.MaxWrite == 65536 },
		"allow_other":          func(inv *Invocation) bool { return inv.Mount.AllowOther },
		"allow_root":           func(inv *Invocation) bool { return inv.Mount.AllowRoot },
		"ro":                   func(inv *Invocation) bool { return inv.Mount.Flags == unix.MS_RDONLY },
		"ro,rw":                func(inv *Invocation) bool { return inv.Mount.Flags == 0 },
		"nosuid,nodev,noexec":  func(inv *Invocation) bool { return inv.Mount.Flags == unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC },
		"nosuid,suid,dev,exec": func(inv *Invocation) bool { return inv.Mount.Flags == 0 },
		"noatime,nodiratime": func(inv *Invocation) bool {
			return inv.Mount.Flags == unix.MS_NOATIME|unix.MS_NODIRATIME && inv.Union.NoAtime
		},
		"noatime,atime": func(inv *Invocation) bool { return inv.Mount.Flags == 0 },
		"fsname=name":   func(inv *Invocation) bool { return inv.Mount.Source == "name" },
		"subtype=kind":  func(inv *Invocation) bool { return inv.Mount.Subtype == "kind" },
		"debug":         func(inv *Invocation) bool { return inv.Debug },
		`context="system_u:object_r:container_file_t:s0:c1,c2"`: func(inv *Invocation) bool {
			return slices.Equal(inv.Mount.Extra, []string{`context="system_u:object_r:container_file_t:s0:c1,c2"`})
		},
		"squash_to_root": func(inv *Invocation) bool { return inv.Serve.ShowUID(7) == 0 && inv.Serve.ShowGID(7) == 0 },
		"squash_to_uid=5,squash_to_gid=6": func(inv *Invocation) bool {
			return inv.Serve.ShowUID(7) == 5 && inv.Serve.ShowGID(7) == 6
		},
		"uidmapping=0:1000:1:1:100000:10": func(inv *Invocation) bool {
			show, store := inv.Serve.ShowUID, inv.Serve.StoreUID
			return show(0) == 1000 && show(10) == 100009 && show(11) == overflowID && store(1000) == 0 && store(100009) == 10 && store(7) == overflowID
		},
		"gidmapping=:0:1000:1": func(inv *Invocation) bool {
			return inv.Serve.ShowGID(0) == 1000 && inv.Serve.StoreGID(1000) == 0 && inv.Serve.ShowUID == nil
		},
		"squash_to_uid=5,squash_to_root,uidmapping=0:1000:1": func(inv *Invocation) bool {
			return inv.Serve.ShowUID(0) == 5 && inv.Serve.ShowGID(7) == 0 && inv.Serve.StoreUID(1000) == 0
		},
	} {
		inv := parse(t, upper+","+list)
		if !ok(inv) {
			t.Errorf("%s: %+v", list, inv)
		}
		if len(inv.Warnings) > 0 {
			t.Errorf("%s: warnings %q", list, inv.Warnings)
		}
	}
}

// TestPassthrough: without the privilege it is left out, with a word about it.
func TestPassthrough(t *testing.T) {
	inv := parse(t, base+",upperdir=/u,workdir=/w,passthrough")
	if can := fs.CanPass(); inv.Serve.Passthrough != can || len(inv.Warnings) > 0 == can {
		t.Errorf("with the privilege %v: passthrough %v, warnings %q", can, inv.Serve.Passthrough, inv.Warnings)
	}
}

// TestAccepted: options that change nothing are taken without a word, unknown
// ones with a warning.
func TestAccepted(t *testing.T) {
	list := "threaded=1,fast_ino=1,fast_ino_check=0,noacl,ino32_t,xino=off,plugins=/p,private,default_permissions,kernel_cache," +
		"splice_read,splice_write,splice_move,no_splice_read,big_writes,index=off,metacopy=off,userxattr,"
	if inv := parse(t, base+","+list); len(inv.Warnings) > 0 {
		t.Errorf("warnings: %q", inv.Warnings)
	}
	inv, err := Parse([]string{"-o", base + ",novelty=1", "--also", "/m"})
	if err != nil || len(inv.Warnings) != 2 || !strings.Contains(inv.Warnings[0], "novelty") || !strings.Contains(inv.Warnings[1], "--also") {
		t.Errorf("warnings: %q, %v", inv.Warnings, err)
	}
}

// TestForms: the shapes that a command line can have.
func TestForms(t *testing.T) {
	for _, args := range [][]string{
		{"-o", base, "/m"},
		{"-o" + base, "/m"},
		{"/m", "-o", base},
		{"-o", "ro", "-o", base, "/m"},
		{"-o", "lowerdir=/l,", "--", "/m"},
		{"-s", "-o", base, "/m"},
	} {
		inv, err := Parse(args)
		if err != nil || inv.Mountpoint != "/m" || len(inv.Union.Lowers) != 1 || inv.Union.Lowers[0].Dir != "/l" {
			t.Errorf("%q: %+v, %v", args, inv, err)
		}
	}
	for flag, ok := range map[string]func(inv *Invocation) bool{
		"-f":        func(inv *Invocation) bool { return inv.Foreground },
		"-d":        func(inv *Invocation) bool { return inv.Foreground && inv.Debug },
		"--debug":   func(inv *Invocation) bool { return inv.Foreground && inv.Debug },
		"-h":        func(inv *Invocation) bool { return inv.Help },
		"--help":    func(inv *Invocation) bool { return inv.Help },
		"-V":        func(inv *Invocation) bool { return inv.Version },
		"--version": func(inv *Invocation) bool { return inv.Version },
	} {
		if inv, err := Parse([]string{flag, "-o", base, "/m"}); err != nil || !ok(inv) {
			t.Errorf("%s: %+v, %v", flag, inv, err)
		}
	}
	if _, err := Parse([]string{"--version"}); err != nil {
		t.Errorf("--version alone: %v", err)
	}
}

// TestEscapes: directories may have colons, commas and backslashes in their
// names.
func TestEscapes(t *testing.T) {
	for list, want := range map[string][]string{
		`lowerdir=/a:/b`:             {"/a", "/b"},
		`lowerdir=/a\:b:/c`:          {"/a:b", "/c"},
		`lowerdir=/a\,b`:             {"/a,b"},
		`lowerdir=/a\\b:/c`:          {`/a\b`, "/c"},
		`lowerdir="/a,b":/c`:         {"/a,b", "/c"},
		`lowerdir=rel/a:b`:           {"rel/a", "b"},
		`lowerdir=/a b:/c`:           {"/a b", "/c"},
		`lowerdir=/a=b`:              {"/a=b"},
		`lowerdir=/a::/b:`:           {"/a", "/b"},
		`lowerdir=/a,lowerdir=/b:/c`: {"/a", "/b", "/c"},
	} {
		if got := lowers(parse(t, list)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", list, got, want)
		}
	}
	inv := parse(t, base+`,upperdir=/u\:1\,2,workdir=/w\:1`)
	if inv.Union.Upper != "/u:1,2" || inv.Union.Work != "/w:1" {
		t.Errorf("upper %q, work %q", inv.Union.Upper, inv.Union.Work)
	}
}

// TestErrors: what cannot be is refused with a line that names it.
func TestErrors(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("/l:", maxLowers), ":")
	if inv := parse(t, "lowerdir="+many); len(inv.Union.Lowers) != 500 {
		t.Errorf("%d lowers of 500", len(inv.Union.Lowers))
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "mountpoint"},
		{[]string{"-o", base}, "mountpoint"},
		{[]string{"-o"}, "-o"},
		{[]string{"/m"}, "lowerdir"},
		{[]string{"-o", "lowerdir=", "/m"}, "lowerdir"},
		{[]string{"-o", base, "/m", "/n"}, "/n"},
		{[]string{"-o", "lowerdir=" + many + ":/one", "/m"}, "501"},
		{[]string{"-o", base + ",upperdir=/u", "/m"}, "workdir"},
		{[]string{"-o", base + ",passthrough,writeback", "/m"}, "exclude each other"},
		{[]string{"-o", base + ",timeout=soon", "/m"}, "timeout"},
		{[]string{"-o", base + ",timeout=-1", "/m"}, "timeout"},
		{[]string{"-o", base + ",timeout=NaN", "/m"}, "timeout"},
		{[]string{"-o", base + ",squash_to_uid=x", "/m"}, "squash_to_uid"},
		{[]string{"-o", base + ",squash_to_gid=4294967296", "/m"}, "squash_to_gid"},
		{[]string{"-o", base + ",uidmapping=0:1", "/m"}, "uidmapping"},
		{[]string{"-o", base + ",gidmapping=a:b:c", "/m"}, "gidmapping"},
		{[]string{"-o", base + ",xattr_permissions=3", "/m"}, "xattr_permissions"},
		{[]string{"-o", base + ",xattr_permissions=1", "/m"}, "take privileges"},
		{[]string{"-o", base + ",owners=mine", "/m"}, "owners"},
		{[]string{"-o", base + ",copyup=half", "/m"}, "copyup"},
		{[]string{"-o", base + ",max_write=all", "/m"}, "max_write"},
	} {
		_, err := Parse(c.args)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q: %v, want one line with %q", fmt.Sprint(c.args), err, c.says)
		}
	}
}

// FuzzParse: any list is refused, or means something that can be mounted.
func FuzzParse(f *testing.F) {
	for _, s := range []string{base, `lowerdir=/a\:b:/c,upperdir=u,workdir=w`, `context="a,b",` + base, "uidmapping=:0:1:2," + base, `lowerdir=\`, `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		inv, err := Parse([]string{"-o", list, "/m"})
		if err != nil {
			return
		}
		n := len(inv.Union.Lowers)
		if n == 0 || n > maxLowers || inv.Union.Upper != "" && inv.Union.Work == "" || slices.Contains(lowers(inv), "") {
			t.Fatalf("%q: %+v", list, inv.Union)
		}
		if inv.Serve.Timeout < 0 || inv.Serve.MaxWrite < 0 {
			t.Fatalf("%q: %+v", list, inv.Serve)
		}
		if inv.Serve.ShowUID != nil && inv.Serve.StoreUID != nil {
			_, _ = inv.Serve.ShowUID(0), inv.Serve.StoreUID(1<<32-1)
		}
	})
}
