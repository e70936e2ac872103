// Package testenv gives tests what they need of the machine, and fails them where the machine does not have it.
package testenv

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// UserVariable names the user that tests become when root runs them.
const UserVariable = "MICA_TEST_USER"

// Unprivileged lets a test run as a plain user. When root runs the tests it executes this one test again as a plain user,
// in a process of its own, reports what came of it and does not return; otherwise it returns at once. Call it first.
func Unprivileged(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	var parts []string
	for _, p := range strings.Split(t.Name(), "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(p)+"$")
	}
	args := []string{"-test.run=" + strings.Join(parts, "/"), "-test.count=1", "-test.v"}
	if d, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+fmt.Sprint(time.Until(d)))
	}
	cmd, err := asPlainUser(args)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("as a plain user: %v\n%s", err, out.String())
	}
	t.SkipNow() // it has passed in the other process; here is nothing left to do
}

// Main runs all tests of a package as a plain user: call it from TestMain, instead of m.Run, and exit with its result.
// Fuzzing stays with the user who started it, since its workers are found by a path that others cannot reach.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	var args []string
	for _, a := range os.Args[1:] { // the go command's own files are not for that user
		if strings.HasPrefix(a, "-test.fuzz") {
			return m.Run()
		}
		if !strings.HasPrefix(a, "-test.testlogfile") && !strings.HasPrefix(a, "-test.coverprofile") {
			args = append(args, a)
		}
	}
	cmd, err := asPlainUser(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "run tests as a plain user:", err)
	return 1
}

// rootVariable marks the process in which MainAsRoot runs tests as root.
const rootVariable = "MICA_TEST_AS_ROOT"

// rootTests begins the names of the tests of MainAsRoot.
const rootTests = "TestAsRoot"

// MainAsRoot is Main for a package with tests of what takes privileges: those whose names begin with TestAsRoot. When root
// runs the tests, these run once more as root before all run as a plain user, where they see to it that the rest works.
func MainAsRoot(m *testing.M) int {
	if os.Getenv(rootVariable) != "" {
		return m.Run()
	}
	if os.Geteuid() == 0 && wantsRootTests(os.Args[1:]) {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+rootTests, "-test.count=1")
		cmd.Env = append(os.Environ(), rootVariable+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "run tests as root:", err)
			return 1
		}
	}
	return Main(m)
}

// wantsRootTests tells whether arguments of a test program choose the tests for root: without a choice all are chosen.
func wantsRootTests(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "-test.fuzz=") || strings.HasPrefix(a, "-test.run=") && !strings.Contains(a, rootTests) {
			return false
		}
	}
	return true
}

// asPlainUser is a command that executes this program as a plain user with a home directory of its own.
func asPlainUser(args []string) (*exec.Cmd, error) {
	u, err := plainUser()
	if err != nil {
		return nil, fmt.Errorf("choose a plain user: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("choose a plain user: %w", err)
	}
	// By its link: the directory that the go command built it in is closed to others.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"USER=" + u.Username, "HOME=" + u.HomeDir, "LOGNAME=" + u.Username}
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); name != "USER" && name != "HOME" && name != "LOGNAME" && !strings.HasPrefix(name, "XDG_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd, nil
}

// plainUser is the user that UserVariable names, else the first with subordinate ids, else nobody.
func plainUser() (*user.User, error) {
	if name := os.Getenv(UserVariable); name != "" {
		return user.Lookup(name)
	}
	if f, err := os.Open("/etc/subuid"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			name, _, _ := strings.Cut(lines.Text(), ":")
			if u, err := user.Lookup(name); err == nil && u.Uid != "0" {
				return u, nil
			}
		}
	}
	return user.LookupId("65534")
}
