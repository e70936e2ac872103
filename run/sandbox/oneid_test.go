package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// oneID is a configuration with one emulated id.
func oneID(t testing.TB, cfg *Config) *Config {
	t.Helper()
	var err error
	if cfg.IDs, err = ResolveIDs(IDsSingle); err != nil {
		t.Fatal(err)
	}
	cfg.EmulateIDs = true
	return cfg
}

func TestEmulatedIdentity(t *testing.T) {
	for _, c := range []struct {
		command string
		user    User
		want    string
	}{
		{"id", User{}, "uid=0(root) gid=0(root) groups=0(root)"},
		{"id -u; id -g; id -G", User{UID: 70000, GID: 5, Groups: []uint32{6, 7}}, "70000 5 5 6 7"},
		{"setpriv --reuid 100 --regid 101 --groups 102,103 sh -c 'id -u; id -g; id -G; echo $(id -u)'; id -u", User{}, "100 101 101 102 103 100 0"},
		// Back to root is not possible, and to another user neither.
		{"setpriv --reuid 100 --regid 101 --clear-groups setpriv --reuid 0 id -u 2>&1 | tail -c 25", User{}, "Operation not permitted"},
		{"setpriv --reuid 100 --regid 101 --clear-groups sh -c 'touch /tmp/x; chown 5 /tmp/x 2>&1; chown 0:0 /dev/shm 2>&1 | wc -l'", User{}, "0"},
		// The limit that holds the number of credentials.
		{"ulimit -x 5; ulimit -x unlimited; ulimit -x; ulimit -Hx", User{UID: 5}, "unlimited unlimited"},
		{"prlimit --locks=7:8 id -u; prlimit --locks -o SOFT,HARD --noheadings; prlimit --locks --pid 999999 2>&1 | grep -c 'No such'", User{UID: 5}, "5 unlimited unlimited 1"},
	} {
		cfg := oneID(t, sh(c.command))
		cfg.Process.Args[0] = "/bin/bash"
		cfg.Process.User = c.user
		cfg.Mounts = []Mount{{Kind: MountTmpfs, Target: "/tmp"}}
		out, _ := output(t, cfg)
		if got := strings.Join(strings.Fields(out), " "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.command, got, c.want)
		}
	}
}

// TestManyIdentities: a process may have been anybody, while others stay who they are.
func TestManyIdentities(t *testing.T) {
	out, st := output(t, oneID(t, self("many-identities")))
	if want := "7 [7]\n9000 [9000]\n"; st.Code != 0 || out != want {
		t.Errorf("%+v: %q, want %q", st, out, want)
	}
}

func TestEmulatedIdentityInThreads(t *testing.T) {
	out, st := output(t, oneID(t, self("threads")))
	if st.Code != 0 || out != "ok\n" {
		t.Errorf("%+v: %s", st, out)
	}
}

// TestEmulatedIdentityAfterExec: an exec that the kernel refuses changes nothing, and one that it carries out does.
func TestEmulatedIdentityAfterExec(t *testing.T) {
	out, st := output(t, oneID(t, self("refused-exec")))
	if want := "0 0 33\n0 0 33\n0 0 0\n"; st.Code != 0 || out != want {
		t.Errorf("%+v: %q, want %q", st, out, want)
	}
}

// TestEmulatedCapset: a capset that the kernel refuses changes nothing either.
func TestEmulatedCapset(t *testing.T) {
	out, st := output(t, oneID(t, self("refused-capset")))
	if st.Code != 0 || out != "EPERM, then as before\n" {
		t.Errorf("%+v: %q", st, out)
	}
}

func TestEmulatedPeer(t *testing.T) {
	out, st := output(t, oneID(t, self("peer")))
	if st.Code != 0 || out != "77 78\n" {
		t.Errorf("%+v: %s", st, out)
	}
	// One that is gone may have been anybody.
	out, st = output(t, oneID(t, self("gone-peer")))
	if st.Code != 0 || out != "65534 65534\n" {
		t.Errorf("%+v: %s", st, out)
	}
}

// TestOneListener: a container with one id cannot be started in another one, and says so.
func TestOneListener(t *testing.T) {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with its filter
		allow := instructions([]unix.SockFilter{ret(unix.SECCOMP_RET_ALLOW)})
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		for range 2 {
			if err == nil {
				_, err = listen(allow)
			}
		}
		result <- err
	}()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "in a container with one id itself") {
		t.Error(err)
	}
}

func init() {
	// threads changes identity in a program with many threads, to and fro.
	commands["threads"] = func([]string) error {
		for range 8 {
			go func() { runtime.LockOSThread(); select {} }()
		}
		for n := range 200 {
			uid := 1000 + n
			if err := syscall.Setresuid(uid, uid, 0); err != nil {
				return err
			}
			if os.Getuid() != uid || os.Geteuid() != uid {
				return fmt.Errorf("uid is %d, want %d", os.Getuid(), uid)
			}
			if err := syscall.Setresuid(0, 0, 0); err != nil {
				return err
			}
		}
		fmt.Println("ok")
		return nil
	}
	showIDs := func() {
		r, e, s := unix.Getresuid()
		fmt.Println(r, e, s)
	}
	commands["show-ids"] = func([]string) error { showIDs(); return nil }
	commands["refused-exec"] = func([]string) error {
		runtime.LockOSThread()
		if err := os.WriteFile("/tmp/garbage", []byte{1, 2, 3}, 0o755); err != nil {
			return err
		}
		if err := unix.Setresuid(0, 0, 33); err != nil {
			return err
		}
		if err := unix.Exec("/tmp/garbage", []string{"x"}, nil); err != unix.ENOEXEC {
			return fmt.Errorf("garbage: %w", err)
		}
		showIDs()
		if err := unix.Exec("/proc/self/exe", []string{strings.Repeat("x", 300_000)}, nil); err != unix.E2BIG {
			return fmt.Errorf("a long argument: %w", err)
		}
		showIDs()
		return unix.Exec("/proc/self/exe", append(os.Args[:1:1], "show-ids"), os.Environ())
	}
	commands["many-identities"] = manyIdentities
	commands["refused-capset"] = func([]string) error {
		runtime.LockOSThread()
		if err := unix.Setgid(5); err != nil {
			return err
		}
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var before, after, wrong [2]unix.CapUserData
		if err := unix.Capget(&hdr, &before[0]); err != nil {
			return err
		}
		wrong[0] = unix.CapUserData{Effective: 1, Permitted: ^uint32(0)}
		wrong[1].Permitted = ^uint32(0)
		err := unix.Capset(&hdr, &wrong[0])
		if err2 := unix.Capget(&hdr, &after[0]); err2 != nil {
			return err2
		}
		if err != unix.EPERM || before != after {
			return fmt.Errorf("%w, %v after %v", err, after, before)
		}
		fmt.Println("EPERM, then as before")
		return nil
	}
	commands["peer"] = func([]string) error {
		if err := syscall.Setresgid(78, 78, 78); err != nil {
			return err
		}
		if err := syscall.Setresuid(77, 77, 77); err != nil {
			return err
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		cred, err := unix.GetsockoptUcred(pair[0], unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		fmt.Println(cred.Uid, cred.Gid)
		return nil
	}
	const socket = "/tmp/socket"
	commands["gone-peer"] = func([]string) error {
		l, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		if out, err := exec.Command(commandPath, "connect").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			return err
		}
		cred, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		fmt.Println(cred.Uid, cred.Gid)
		return nil
	}
	commands["connect"] = func([]string) error {
		if err := syscall.Setresuid(77, 77, 0); err != nil {
			return err
		}
		_, err := net.Dial("unix", socket)
		return err
	}
	// loops prints nanoseconds for a call: one that is never emulated, and one that is.
	commands["loops"] = func([]string) error {
		for name, nr := range map[string]uintptr{"getpid": unix.SYS_GETPID, "getuid": unix.SYS_GETUID} {
			const n = 20000
			start := time.Now()
			for range n {
				raw(nr)
			}
			fmt.Println(name, time.Since(start).Nanoseconds()/n)
		}
		return nil
	}
}

func BenchmarkIdentityCalls(b *testing.B) {
	for b.Loop() {
		cfg := oneID(b, self("loops"))
		cfg.Process.Stdout = os.Stdout
		s, err := Start(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		s.Wait()
	}
}

// manyIdentities takes more identities than the table has room for, and starts a process with an early one that tells at the end
// what became of its own.
func manyIdentities(args []string) error {
	tell := func() error {
		groups, err := unix.Getgroups()
		fmt.Println(unix.Getegid(), groups)
		return err
	}
	if len(args) > 0 {
		_, _ = os.Stdin.Read(make([]byte, 1))
		return tell()
	}
	early := exec.Command(commandPath, os.Args[1], "early")
	early.Stdout = os.Stdout
	stdin, err := early.StdinPipe()
	if err != nil {
		return err
	}
	for i := range 9000 {
		if err := errors.Join(unix.Setgroups([]int{i + 1}), unix.Setregid(i+1, i+1)); err != nil {
			return fmt.Errorf("identity %d: %w", i+1, err)
		}
		if i+1 == 7 {
			if err := early.Start(); err != nil {
				return err
			}
		}
	}
	stdin.Close()
	return errors.Join(early.Wait(), tell())
}
