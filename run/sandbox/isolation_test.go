package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCapabilities(t *testing.T) {
	const show = `grep -E '^Cap|NoNewPrivs|^Seccomp:' /proc/self/status | tr -d '\t'`
	for name, c := range map[string]struct {
		caps Caps
		user User
		nnp  bool
		want string
	}{
		"default":    {want: "CapInh:0000000000000000 CapPrm:00000000a80425fb CapEff:00000000a80425fb CapBnd:00000000a80425fb CapAmb:0000000000000000 NoNewPrivs:0 Seccomp:2"},
		"none":       {caps: Caps{Drop: []string{"ALL"}}, nnp: true, want: "CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2"},
		"only one":   {caps: Caps{Drop: []string{"all"}, Add: []string{"cap_chown"}}, want: "CapInh:0000000000000000 CapPrm:0000000000000001 CapEff:0000000000000001 CapBnd:0000000000000001 CapAmb:0000000000000000 NoNewPrivs:0 Seccomp:2"},
		"one more":   {caps: Caps{Add: []string{"NET_ADMIN"}}, want: "CapInh:0000000000000000 CapPrm:00000000a80435fb CapEff:00000000a80435fb CapBnd:00000000a80435fb CapAmb:0000000000000000 NoNewPrivs:0 Seccomp:2"},
		"other user": {user: User{UID: 1000, GID: 1000}, want: "CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:00000000a80425fb CapAmb:0000000000000000 NoNewPrivs:0 Seccomp:2"},
	} {
		cfg := sh(show)
		cfg.Caps, cfg.NoNewPrivs, cfg.Process.User = c.caps, c.nnp, c.user
		out, _ := output(t, cfg)
		if got := strings.Join(strings.Fields(out), " "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
	cfg := sh("")
	cfg.Caps.Add = []string{"FLY"}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `"FLY"`) {
		t.Errorf("unknown capability: %v", err)
	}
}

func TestSeccomp(t *testing.T) {
	calls := []string{"mount", "unshare", "clone-newuser", "clone3", "keyctl", "bpf", "socket-vsock", "personality", "chroot", "unknown", "io_uring", "getpid"}
	run := func(s Seccomp, caps Caps) map[string]string {
		cfg := self(append([]string{"calls"}, calls...)...)
		cfg.Seccomp, cfg.Caps = s, caps
		out, _ := output(t, cfg)
		m := map[string]string{}
		for _, l := range lines(out) {
			name, result, _ := strings.Cut(strings.TrimSpace(l), " ")
			m[name] = result
		}
		return m
	}
	got := run(Seccomp{}, Caps{})
	want := map[string]string{
		"mount": "EPERM", "unshare": "EPERM", "clone-newuser": "EPERM", "clone3": "ENOSYS", "keyctl": "EPERM", "bpf": "EPERM",
		"socket-vsock": "EPERM", "personality": "EPERM", "chroot": "ok", "unknown": "ENOSYS", "io_uring": "EPERM", "getpid": "ok",
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("default profile, %s: got %q, want %q", name, got[name], w)
		}
	}
	if got := run(Seccomp{Mode: SeccompUnconfined}, Caps{}); got["unshare"] != "ok" || got["clone3"] == "ENOSYS" {
		t.Errorf("unconfined: %v", got)
	}
	if got := run(Seccomp{}, Caps{Add: []string{"SYS_ADMIN"}}); got["unshare"] != "ok" || got["keyctl"] != "EPERM" {
		t.Errorf("default profile with SYS_ADMIN: %v", got)
	}
	profile := `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
		{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_GE"}]},
		{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_CHROOT"]}}]}`
	got = run(Seccomp{Mode: SeccompFile, Profile: []byte(profile)}, Caps{})
	if got["getpid"] != "ENOSYS" || got["unshare"] != "ok" || got["personality"] != "EPERM" || got["chroot"] != "ok" {
		t.Errorf("profile from a file: %v", got)
	}
	for _, bad := range []string{"{", `{"defaultAction": "SCMP_ACT_DANCE"}`, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]}`} {
		cfg := sh("")
		cfg.Seccomp = Seccomp{Mode: SeccompFile, Profile: []byte(bad)}
		if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "seccomp profile") {
			t.Errorf("profile %s: %v", bad, err)
		}
	}
}

func TestMaskedPaths(t *testing.T) {
	out, _ := output(t, sh(`cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c; ls -A /proc/acpi /sys/firmware 2>/dev/null | grep -v :; echo 1 >/proc/sys/kernel/domainname || echo ro`))
	if got := strings.Join(slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return strings.Contains(l, "Read-only") || l == "" }), " "); got != "0 ro" {
		t.Errorf("got %q from\n%s", got, out)
	}
}

// TestInitIsHidden lets a program try the known ways out, with many ids and with one, with more capabilities than usual, and on a
// terminal.
func TestInitIsHidden(t *testing.T) {
	for name, change := range map[string]func(*Config) *Config{
		"default":                func(c *Config) *Config { return c },
		"one id":                 func(c *Config) *Config { return oneID(t, c) },
		"with ptrace":            func(c *Config) *Config { c.Caps.Add = []string{"SYS_PTRACE"}; return c },
		"one id and with ptrace": func(c *Config) *Config { c.Caps.Add = []string{"SYS_PTRACE"}; return oneID(t, c) },
	} {
		out, st := output(t, change(self("attack")))
		if st.Code != 0 {
			t.Errorf("%s: status %+v\n%s", name, st, out)
		}
		for _, l := range lines(out) {
			t.Logf("%s: %s", name, strings.TrimSpace(l))
			if strings.HasPrefix(l, "ESCAPED") {
				t.Errorf("%s: %s", name, l)
			}
		}
	}
}

// TestPushedInput pushes input to the terminal of the sandbox: it must be one of its own, so that it is the sandbox alone that
// reads it.
func TestPushedInput(t *testing.T) {
	cfg := self("push")
	cfg.Process.TTY = true
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	tty := s.Main().TTY()
	defer tty.Close()
	out := bufio.NewScanner(tty)
	for out.Scan() {
		if l := strings.TrimSpace(out.Text()); l == "the host's" {
			t.Error("the terminal is the host's")
		} else if l == "own" {
			s.Wait()
			return
		}
	}
	t.Error("no answer")
}

func TestUsers(t *testing.T) {
	single, err := ResolveIDs(IDsSingle)
	if err != nil {
		t.Fatal(err)
	}
	full, err := ResolveIDs(IDsFull)
	if err != nil {
		t.Fatal(err)
	}
	keep, err := ResolveIDs(IDsKeep)
	if err != nil {
		t.Fatal(err)
	}
	me := uint32(os.Getuid())
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ids  IDMap
		user User
		want string
	}{
		"single":         {single, User{}, "0 0 0"},
		"full":           {full, User{}, "0 0 0"},
		"full, as 5":     {full, User{UID: 5, GID: 6, Groups: []uint32{6, 7}}, "5 6 0"},
		"keep":           {keep, User{UID: me, GID: uint32(os.Getgid())}, fmt.Sprint(me, " ", os.Getgid(), " ", me)},
		"keep, as root":  {keep, User{}, fmt.Sprint("0 0 ", me)},
		"keep, only one": {IDMap{UIDs: []IDRange{{me, me, 1}}, GIDs: []IDRange{{7, uint32(os.Getgid()), 1}}}, User{UID: me, GID: 7}, fmt.Sprint(me, " 7 ", me)},
	} {
		cfg := sh("echo $(id -u) $(id -g) $(stat -c %u /mnt)")
		cfg.IDs, cfg.Process.User = c.ids, c.user
		cfg.Mounts = []Mount{{Source: dir, Target: "/mnt"}}
		if out, st := output(t, cfg); strings.TrimSpace(out) != c.want || st.Code != 0 {
			t.Errorf("%s: got %q, %+v, want %q", name, out, st, c.want)
		}
	}
	cfg := sh("grep Groups /proc/self/status")
	cfg.IDs, cfg.Process.User = full, User{UID: 5, GID: 6, Groups: []uint32{6, 7}}
	if out, _ := output(t, cfg); strings.Join(strings.Fields(out), " ") != "Groups: 6 7" {
		t.Errorf("supplementary groups: %q", out)
	}
	cfg = sh("")
	cfg.IDs, cfg.Process.User = single, User{UID: 5}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "user 5 does not exist") {
		t.Errorf("unmapped user: %v", err)
	}
}

func TestKeepMap(t *testing.T) {
	for _, c := range []struct {
		id     uint32
		ranges []IDRange
		want   []IDRange
	}{
		{1000, []IDRange{{0, 100000, 65536}}, []IDRange{{0, 100000, 1000}, {1000, 1000, 1}, {1001, 101000, 64536}}},
		{0, []IDRange{{0, 100000, 10}}, []IDRange{{0, 0, 1}, {1, 100000, 10}}},
		{10, []IDRange{{0, 500, 5}, {0, 900, 5}}, []IDRange{{0, 500, 5}, {5, 900, 5}, {10, 10, 1}}},
		{7, []IDRange{{0, 500, 5}, {0, 900, 5}}, []IDRange{{0, 500, 5}, {5, 900, 2}, {7, 7, 1}, {8, 902, 3}}},
		{99, []IDRange{{0, 500, 5}}, []IDRange{{0, 500, 5}, {99, 99, 1}}},
	} {
		if got := keep(c.id, c.ranges); !slices.Equal(got, c.want) {
			t.Errorf("keep %d in %v: got %v, want %v", c.id, c.ranges, got, c.want)
		}
	}
}

// smallRoot is a directory with the test binary as its only command.
func smallRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(executableCopy())
	if err == nil {
		err = os.WriteFile(filepath.Join(root, commandPath), text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// libraries are the mounts that the test binary needs in a small root, unless it is static.
func libraries() (m []Mount) {
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
		if _, err := os.Stat(dir); err == nil {
			m = append(m, Mount{Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return m
}

func TestMountTargetsStayInside(t *testing.T) {
	outside := t.TempDir()
	root := smallRoot(t)
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "mark"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// Every trick that an image can play with the targets.
	for name, to := range map[string]string{"abs": outside, "rel": "../../../../../../../.." + outside, "magic": "/proc/1/root", "loop": "loop", "dev": outside, "etc": outside} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"/abs/a", "/rel/b", "/new/deep/dir", "/../../up"} {
		cfg := &Config{
			Root: Root{Dir: root}, Mounts: append(libraries(), Mount{Source: volume, Target: target}),
			Files:   []File{{Target: filepath.Dir(target) + "/file", Content: []byte("x")}},
			Process: Spec{Args: []string{commandPath, "ls", target}},
		}
		out, err := tryOutput(t, cfg)
		if err != nil || !strings.Contains(out, "mark") {
			t.Errorf("%s: volume shows %q, %v", target, out, err)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
			t.Fatalf("%s: reached the outside: %v, %v", target, left, err)
		}
	}
	for _, target := range []string{"/loop/x", "/magic/x"} {
		cfg := &Config{
			Root: Root{Dir: root}, Mounts: append(libraries(), Mount{Source: volume, Target: target}),
			Process: Spec{Args: []string{commandPath, "ls", "/"}},
		}
		if _, err := tryOutput(t, cfg); err == nil {
			t.Errorf("%s: accepted", target)
		}
	}
}

// tryOutput is output for a start that may fail.
func tryOutput(t *testing.T, cfg *Config) (string, error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cfg.Process.Stdout, cfg.Process.Stderr = file, file
	s, err := Start(t.Context(), cfg)
	if err != nil {
		return "", err
	}
	s.Wait()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), nil
}

func TestMountsAndFiles(t *testing.T) {
	root := smallRoot(t)
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "old"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	single := filepath.Join(volume, "old")
	cfg := &Config{
		Root: Root{Dir: root}, ReadOnlyRoot: true, Hostname: "box", ShmSize: 1 << 20,
		Mounts: append(libraries(),
			Mount{Source: volume, Target: "/rw"}, Mount{Source: volume, Target: "/ro", ReadOnly: true},
			Mount{Source: single, Target: "/one/file"}, Mount{Kind: MountTmpfs, Target: "/scratch", Options: "mode=700,size=1m"}),
		Files:   []File{{Target: "/etc/hostname", Content: []byte("box\n")}, {Target: "/etc/hosts", Content: []byte("hosts\n"), Mode: 0o600}},
		Process: Spec{Args: []string{commandPath, "mounts"}},
	}
	out, err := tryOutput(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"host box", "/rw/new ok", "/ro/new EROFS", "/scratch/new ok", "/new EROFS", "/etc/new EROFS", "/dev/shm/new ok", "/etc/hostname 644 box",
		"/etc/hosts 600 hosts", "/one/file 644 old",
	}
	if got := strings.Split(strings.TrimSpace(out), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", out, strings.Join(want, "\n"))
	}
	// Generated files leave empty mount points only.
	for _, f := range []string{"etc/hostname", "etc/hosts", "one/file"} {
		if fi, err := os.Stat(filepath.Join(root, f)); err != nil || fi.Size() != 0 {
			t.Errorf("mount point %s: %v, %v", f, fi, err)
		}
	}
	if _, err := os.Stat(filepath.Join(volume, "new")); err != nil {
		t.Error(err)
	}
	for _, m := range []Mount{{Source: "/no/such", Target: "/x"}, {Source: "relative", Target: "/x"}, {Source: volume, Target: "x"}} {
		cfg := &Config{Root: Root{Dir: root}, Mounts: []Mount{m}, Process: Spec{Args: []string{commandPath, "mounts"}}}
		if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "mount") {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// errnoName makes results comparable.
func errnoName(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := err.(unix.Errno); ok {
		if e == 0 {
			return "ok"
		}
		return unix.ErrnoName(e)
	}
	return err.Error()
}
