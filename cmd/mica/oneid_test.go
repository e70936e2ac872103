package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPackageWithOneID installs a package whose files and scripts use other users, in a container that has a single id: the image
// that is made of it has the owners, modes, capabilities and devices that they meant. It works on a copy of this machine, if
// that is one with dpkg.
func TestPackageWithOneID(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("this machine has no dpkg")
	}
	const script = `set -e
umask 022
cd /var/tmp && mkdir -p pkg/DEBIAN pkg/opt/one pkg/opt/one/state && cd pkg
printf 'Package: one-id\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.test>\nDescription: test\n' > DEBIAN/control
cat > DEBIAN/postinst <<'X'
#!/bin/sh
set -e
cd /opt/one
chown 71:72 owned; chmod 6755 owned
chown 73 state; chmod 3770 state
setpriv --reuid 73 --regid 74 --clear-groups sh -c 'umask 027; echo made > state/made; mkdir state/dir; test "$(id -u)" = 73'
! setpriv --reuid 75 --regid 75 --clear-groups chown 75 owned 2>/dev/null
mknod -m 640 device c 1 3; chgrp 6 device
install -o 76 -g 77 -m 4711 /bin/true installed
cp -a owned copied
tar -cf - owned state | (mkdir -p x; tar -C x -xpf -)
setpriv --reuid 78 --regid 78 --clear-groups test ! -O owned
X
chmod 755 DEBIAN/postinst
echo shipped > opt/one/owned; echo shipped > opt/one/shipped
chown 79:80 opt/one/shipped; chmod 640 opt/one/shipped
dpkg-deb -b . ../one.deb > /dev/null
mkdir -p ../db/updates ../db/info ../db/triggers; touch ../db/status ../db/available
HOME=/var/tmp dpkg --admindir=/var/tmp/db --log=/dev/null -i ../one.deb > /dev/null
cd /; rm -rf /var/tmp/pkg /var/tmp/db /var/tmp/one.deb`
	const look = `cd /opt/one && stat -c '%n %u:%g %a %F' owned state state/made state/dir device installed copied shipped x/owned x/state/made`
	want := `owned 71:72 6755 regular file
state 73:0 3770 directory
state/made 73:0 640 regular file
state/dir 73:0 2750 directory
device 0:6 640 character special file
installed 76:77 4711 regular file
copied 71:72 6755 regular file
shipped 79:80 640 regular file
x/owned 71:72 6755 regular file
x/state/made 73:0 640 regular file`
	c := newCLI(t)
	c.remove("one-id")
	if r := c.run("run", "--name", "one-id", "--userns", "single", "--network", "none", "host", "sh", "-c", script); r.code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	c.ok("commit", "one-id", "one-id")
	for _, ids := range []string{"single", "full"} {
		got := c.ok("run", "--rm", "--userns", ids, "--network", "none", "one-id", "sh", "-c", look)
		if strings.ReplaceAll(got, "regular empty file", "regular file") != want {
			t.Errorf("with --userns %s:\n%s\nwant\n%s", ids, got, want)
		}
	}
}

// TestPrivilegesWithOneID: capabilities that a container has not are not emulated either, and set-id bits have no effect for a
// program that has asked for that.
func TestPrivilegesWithOneID(t *testing.T) {
	c := newCLI(t)
	for _, test := range []struct{ drop, script, want string }{
		{"KILL", "cp /usr/bin/id /var/tmp/id; chown 33:33 /var/tmp/id; chmod 4755 /var/tmp/id; stat -c %u /var/tmp/id; setpriv --reuid 44 --clear-groups /var/tmp/id -u; " +
			"setpriv --reuid 44 --clear-groups --no-new-privs /var/tmp/id -u", "33\n33\n44"},
		{"CHOWN", "touch /var/tmp/f; chown 33 /var/tmp/f 2>/dev/null; stat -c %u /var/tmp/f", "0"},
		{"SETUID", "setpriv --reuid 44 --clear-groups id -u 2>/dev/null || echo refused", "refused"},
		{"SETGID", "setpriv --regid 44 --clear-groups id -g 2>/dev/null || echo refused", "refused"},
	} {
		got := c.ok("run", "--rm", "--userns", "single", "--network", "none", "--cap-drop", test.drop, "host", "sh", "-c", test.script)
		if got != test.want {
			t.Errorf("without CAP_%s: %q, want %q", test.drop, got, test.want)
		}
	}
}

// TestUnchangedIdentity: a process that has never changed its identity has no number of credentials, so that what it executes is not
// looked at closely.
func TestUnchangedIdentity(t *testing.T) {
	c := newCLI(t)
	for _, flags := range [][]string{nil, {"--security-opt", "no-new-privileges"}, {"--cap-drop", "all"}} {
		c.remove("unchanged")
		c.ok(append(append([]string{"run", "-d", "--name", "unchanged", "--userns", "single"}, flags...), "base", "sh", "-c", "while :; do sleep 1000; done")...)
		_, pid, _ := strings.Cut(c.ok("top", "unchanged", "pid"), "\n")
		limits, err := os.ReadFile("/proc/" + strings.TrimSpace(strings.Split(pid, "\n")[0]) + "/limits")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if rest, ok := strings.CutPrefix(line, "Max file locks"); ok && strings.Fields(rest)[0] != "unlimited" {
				t.Errorf("with %q: %s", flags, line)
			}
		}
		c.ok("rm", "-f", "unchanged")
	}
}
