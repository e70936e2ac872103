package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRun walks a table of runs with `--rm`.
func TestRun(t *testing.T) {
	c := newCLI(t)
	c.env = []string{"GIVEN=from outside"}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	envFile := filepath.Join(dir, "env")
	if err := os.WriteFile(envFile, []byte("# comment\nA=1\n\nGIVEN\nB=two words\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args  string // flags, image and command, separated by blanks
		sh    string // script; empty: the command is in args
		input string
		out   string
		code  int
	}{
		"output":               {args: "base", sh: "echo out", out: "out\n"},
		"exit code":            {args: "base", sh: "exit 42", code: 42},
		"killed":               {args: "base", sh: "kill -9 $$", code: 137},
		"no such command":      {args: "base /bin/nothing", code: 127},
		"not executable":       {args: "base /etc/passwd", code: 126},
		"directory":            {args: "base /etc", code: 126},
		"input":                {args: "-i base", sh: "cat", input: "through\n", out: "through\n"},
		"no input":             {args: "base", sh: "cat", input: "not read\n", out: ""},
		"environment":          {args: "-e X=y -e GIVEN -e MISSING base", sh: `echo "$X,$GIVEN,${MISSING-unset},$container,$HOME"`, out: "y,from outside,unset,mica,/root\n"},
		"env file":             {args: "--env-file " + envFile + " -e A=3 base", sh: `echo "$A,$B,$GIVEN"`, out: "3,two words,from outside\n"},
		"user by name":         {args: "-u web base", sh: "id -u; id -g; id -G; echo $HOME", out: "33\n33\n33 29\n/srv\n"},
		"user by number":       {args: "-u 1000:33 base", sh: "id -u; id -g", out: "1000\n33\n"},
		"unlisted user":        {args: "-u 4242 base", sh: "id -u; id -g; echo $HOME", out: "4242\n0\n/\n"},
		"unknown user":         {args: "-u nobodyhere base true", code: 125},
		"working directory":    {args: "-w /made/for/this base", sh: "stat -c '%a %u' .; echo $PWD", out: "755 0\n/made/for/this\n"},
		"relative directory":   {args: "-w here base true", code: 125},
		"host name":            {args: "-h box base", sh: "uname -n; grep box /etc/hosts; cat /etc/hostname", out: "box\n127.0.1.1\tbox\nbox\n"},
		"entry point":          {args: "--entrypoint /bin/cat base /etc/os-release", out: "ID=mica-test\n"},
		"read-only":            {args: "--read-only base", sh: "touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo shm", out: "refused\nshm\n"},
		"tmpfs":                {args: "--tmpfs /scratch:size=1m base", sh: "grep -c ' /scratch tmpfs' /proc/mounts; touch /scratch/x", out: "1\n"},
		"bind mount":           {args: "-v " + dir + ":/mnt/host base", sh: "cat /mnt/host/file; echo x > /mnt/host/made", out: "from the host\n"},
		"read-only bind mount": {args: "-v " + dir + ":/mnt/host:ro base", sh: "echo x 2>/dev/null > /mnt/host/other || echo refused", out: "refused\n"},
		"mount flag":           {args: "--mount type=bind,src=" + dir + ",dst=/m,readonly,z,relabel=private base", sh: "cat /m/file", out: "from the host\n"},
		"capabilities":         {args: "--cap-drop ALL base", sh: "grep CapEff /proc/self/status", out: "CapEff:\t0000000000000000\n"},
		"ulimit":               {args: "--ulimit nofile=123:456 base", sh: "ulimit -n; ulimit -Hn", out: "123\n456\n"},
		"shm size":             {args: "--shm-size 1m base", sh: "stat -f -c '%b %S' /dev/shm", out: "256 4096\n"},
		"extra host":           {args: "--add-host db:10.1.2.3 base", sh: "grep 10.1.2.3 /etc/hosts", out: "10.1.2.3\tdb\n"},
		"resolver":             {args: "--dns 10.9.8.7 --dns-search example.test base", sh: "grep -c -e 'nameserver 10.9.8.7' -e 'search example.test' /etc/resolv.conf", out: "2\n"},
		"no network":           {args: "--network none base", sh: "cat /proc/net/dev | grep -c :", out: "1\n"},
		"one id":               {args: "--userns single base", sh: "id -u; cat /proc/self/uid_map | wc -l", out: "0\n1\n"},
		"own account":          {args: "--userns keep-id -w /tmp base", sh: `test "$(id -un)" != "$(id -u)" && test ~ = "$(pwd)" && echo "known at $HOME"`, out: "known at /tmp\n"},
		"sysctls":              {args: "--network none --sysctl net.ipv4.ip_unprivileged_port_start=80 --sysctl kernel.msgmax=9000 base", sh: "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", out: "80\n9000\n"},
		"own id":               {args: "--userns keep-id base", sh: "test $(id -u) != 0 && echo kept", out: "kept\n"},
		"own group":            {args: "-u 33:2000 base", sh: "grep Groups /proc/self/status", out: "Groups:\t2000 \n"},
		"host's namespaces":    {args: "--ipc host --uts host --cgroupns host base", sh: "readlink /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/cgroup; stat -c %d /dev/shm; uname -n", out: hostNamespaces(t)},
		"resolver options":     {args: "--dns-opt ndots:2 --dns-option rotate base", sh: "grep ^options /etc/resolv.conf", out: "options ndots:2 rotate\n"},
		"umask":                {args: "--umask 0077 base", sh: "umask", out: "0077\n"},
		"words of entry point": {args: `--entrypoint ["cat","/etc/os-release"] base`, out: "ID=mica-test\n"},
		"list of capabilities": {args: "--cap-drop ALL --cap-add CHOWN,KILL base", sh: "grep CapBnd /proc/self/status", out: "CapBnd:\t0000000000000021\n"},
		"no hosts":             {args: "--no-hosts base", sh: "test -s /etc/hosts || echo none", out: "none\n"},
		"memory score":         {args: "--oom-score-adj 500 base", sh: "cat /proc/self/oom_score_adj", out: "500\n"},
		"time limit":           {args: "--timeout 1 base sleep 1000", code: 137},
		"GPUs":                 {args: "--gpus all base true", code: 125},
		"timezone":             {args: "--tz Asia/Tokyo base date -d @0 +%H", out: "09\n"},
		"no timezone":          {args: "--tz Mars/Olympus base true", code: 125},
		"own groups":           {args: "--group-add keep-groups base", sh: "grep -c Groups: /proc/self/status", out: "1\n"},
		"descriptors":          {args: "base", sh: "ls /proc/self/fd | sort -n | head -3", out: "0\n1\n2\n"},
		"lower file":           {args: "base", sh: "cat /lower/file; echo upper > /lower/file; cat /lower/file; rm /lower/gone; ls /lower", out: "lower\nupper\nfile\n"},
		"unknown image":        {args: "--pull never nothere true", code: 125},
		"unknown flag":         {args: "--nothing base true", code: 125},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cli{t: t, root: c.root, env: c.env}
			args := append([]string{"run", "--rm"}, strings.Fields(tc.args)...)
			if tc.sh != "" {
				args = append(args, "sh", "-c", tc.sh)
			}
			r := c.runInput(tc.input, args...)
			if r.code != tc.code || r.stdout != tc.out {
				t.Errorf("exit code %d, output %q; want %d, %q\n%s", r.code, r.stdout, tc.code, tc.out, r.stderr)
			}
			if tc.code == 125 && (!strings.HasPrefix(r.stderr, "mica: ") || strings.Count(r.stderr, "\n") != 1) {
				t.Errorf("want one line of mica's, got %q", r.stderr)
			}
		})
	}
}

// TestDefaultCommand runs an image that names no command: its shell takes the input.
func TestDefaultCommand(t *testing.T) {
	c := newCLI(t)
	r := c.runInput("echo from the $0 shell\nexit 3\n", "run", "--rm", "-i", "--name", "x", "base")
	if r.code != 3 || r.stdout != "from the sh shell\n" {
		t.Errorf("exit code %d, %q, %s", r.code, r.stdout, r.stderr)
	}
}

// TestUsageErrors says of lines that cannot be right what is wrong and where to read on.
func TestUsageErrors(t *testing.T) {
	c := newCLI(t)
	for line, want := range map[string]string{
		"run":                  `mica: no argument given; want: mica run [flags] IMAGE [COMMAND [ARG...]]; see "mica run --help"`,
		"run --badflag base":   `mica: unknown flag: --badflag; see "mica run --help"`,
		"rm":                   `mica: no argument given; want: mica rm [flags] CONTAINER...; see "mica rm --help"`,
		"container ls --nope":  `mica: unknown flag: --nope; see "mica container ls --help"`,
		"exec --nope x true":   `mica: unknown flag: --nope; see "mica exec --help"`,
		"run --memory x base":  `mica: --memory "x": want a size of at least 6m`,
		"run --stop-timeout s": `mica: invalid argument "s" for "--stop-timeout" flag: want a number; see "mica run --help"`,
	} {
		if r := c.run(strings.Fields(line)...); r.code != 125 || strings.TrimSpace(r.stderr) != want || r.stdout != "" {
			t.Errorf("%s: exit code %d, got\n%s\nwant\n%s", line, r.code, r.stderr, want)
		}
	}
}

// TestBadValues names what is wrong with values that would mean nothing.
func TestBadValues(t *testing.T) {
	c := newCLI(t)
	for line, want := range map[string]string{
		"run --dns bogus base":              `mica: --dns "bogus": want an address, such as 192.0.2.1`,
		"run --expose 99999 base":           `mica: --expose "99999": want PORT[-PORT][/tcp|udp|sctp]`,
		"run --expose 80/icmp base":         `mica: --expose "80/icmp": want PORT[-PORT][/tcp|udp|sctp]`,
		"run --log-driver syslog base":      `mica: --log-driver "syslog": want json-file or none`,
		"run --log-opt max-size=no base":    `mica: --log-opt "max-size=no": want a size, such as max-size=10m`,
		"run --pid host base":               `mica: --pid "host": a container has its own: want private, or leave it out`,
		"run --sysctl net..x=1 base":        `mica: --sysctl "net..x=1": want NAME=VALUE, such as net.core.somaxconn=1024`,
		"run --rm --sysctl net.x=1 base":    `mica: --sysctl net.x: with the machine's network it is the machine's: choose --network pasta or none`,
		"run --rm --sysctl vm.x=1 base":     `mica: --sysctl vm.x: it is the machine's, not a container's own: want net.*, fs.mqueue.* or one of kernel.msgmax, kernel.msgmnb, kernel.msgmni, kernel.sem, kernel.shmall, kernel.shmmax, kernel.shmmni, kernel.shm_rmid_forced`,
		"create --pull bogus base":          `mica: --pull "bogus": want always, missing, never or newer`,
		"run --ulimit nofile=20:10 base":    `mica: --ulimit "nofile=20:10": the soft limit is above the hard one; want NAME=SOFT[:HARD]`,
		"run --ulimit bogus=1 base":         `mica: --ulimit "bogus=1": there is no limit "bogus"; want a name such as nofile, nproc or core`,
		"run -v a/b:/d base":                `mica: --volume "a/b:/d": volume name "a/b": want a letter or digit, then letters, digits, '_', '.' and '-'; a path of the host begins with / or ./`,
		"run --mount source=x base":         `mica: --mount "source=x": it has no place in the container: add target=DST`,
		"run --rm -v /etc:/etc/passwd base": `mica: mount over /etc/passwd: invalid argument: one of source and target is a directory and the other is not`,
		"ps --filter exited=abc":            `mica: filter exited=abc: want an exit code`,
		"container ls -a -f status=bogus":   `mica: filter status=bogus: want one of created, running, restarting, paused, removing, exited, dead`,
	} {
		if r := c.run(strings.Fields(line)...); r.code != 125 && r.code != 1 || strings.TrimSpace(r.stderr) != want || r.stdout != "" {
			t.Errorf("%s: exit code %d, got\n%s\nwant\n%s", line, r.code, r.stderr, want)
		}
	}
}

// TestNamesOfMachine asks the kernel and inspect for the names of a container's machine.
func TestNamesOfMachine(t *testing.T) {
	c := newCLI(t)
	t.Cleanup(func() { c.run("rm", "-f", "names") })
	if out := c.ok("run", "--name", "names", "-h", "box", "--domainname", "example.org", "base", "cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"); out != "box\nexample.org" {
		t.Errorf("the kernel has %q", out)
	}
	format := "{{.Config.Hostname}} {{.Config.Domainname}} [{{.NetworkSettings.IPAddress}}]"
	if out := c.ok("inspect", "-f", format, "names"); out != "box example.org []" {
		t.Errorf("inspect has %q", out)
	}
}

// What a run with --rm leaves behind: nothing, whether it started or not.
func TestRunLeavesNothing(t *testing.T) {
	c := newCLI(t)
	c.run("run", "--rm", "--name", "left-1", "base", "true")
	c.run("run", "--rm", "--name", "left-2", "base", "/bin/nothing")
	c.run("run", "--rm", "--name", "left-3", "-u", "nobodyhere", "base", "true")
	if out := c.ok("ps", "-aq", "--filter", "name=left-"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}

// Whatever the caller's umask is, the store works, and a container has its own.
func TestUmask(t *testing.T) {
	newCLI(t)
	c := &cli{t: t, root: filepath.Join(t.TempDir(), "store")}
	mica := filepath.Join(shared.dir, "mica")
	script := `umask 777
"$0" import "$1" base && "$0" run --name masked base sh -c 'umask; echo new >/srv/new; mkdir /srv/dir; stat -c %a /srv/new /srv/dir' &&
"$0" commit masked made >/dev/null && "$0" run --rm made stat -c %a /srv/new /srv/dir`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, mica, filepath.Join(shared.dir, "base.tar"))
	cmd.Env = c.command(t.Context()).Env
	out, err := cmd.CombinedOutput()
	_, said, _ := strings.Cut(string(out), "\n")
	if err != nil || said != "0022\n644\n755\n644\n755\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

// A port of the host that is not given is chosen once, and shown while it leads to the container.
func TestChosenPort(t *testing.T) {
	c := newCLI(t)
	c.remove("chosen")
	c.ok("create", "--name", "chosen", "-p", "80", "base", "sleep", "1000")
	notShown := func() {
		t.Helper()
		if got := c.ok("port", "chosen"); got != "" {
			t.Errorf("port shows %q of a container that does not run", got)
		}
		c.fails(125, "not published", "port", "chosen", "80")
	}
	notShown()
	c.ok("start", "chosen")
	shown := c.ok("port", "chosen", "80")
	if port := strings.TrimPrefix(shown, "0.0.0.0:"); port == "80" || port == "0" || port == shown {
		t.Errorf("port shows %q", shown)
	}
	if got := c.ok("ps", "-a", "--filter", "name=chosen", "--format", "{{.Ports}}"); got != shown+"->80/tcp" {
		t.Errorf("ps shows %q, want %q", got, shown)
	}
	if got := c.ok("inspect", "-f", `{{json .HostConfig.PortBindings}}`, "chosen"); !strings.Contains(got, strings.TrimPrefix(shown, "0.0.0.0:")) {
		t.Errorf("inspect shows %q, want %q", got, shown)
	}
	c.ok("kill", "chosen")
	c.ok("wait", "chosen")
	notShown()
}

func TestCidfile(t *testing.T) {
	c := newCLI(t)
	file := filepath.Join(t.TempDir(), "cid")
	c.ok("run", "--name", "cid", "--cidfile", file, "base", "true")
	c.remove("cid")
	id, err := os.ReadFile(file)
	if err != nil || string(id) != c.ok("inspect", "-f", "{{.Id}}", "cid") {
		t.Errorf("%q, %v", id, err)
	}
	c.fails(125, "exists", "run", "--rm", "--cidfile", file, "base", "true")
}

func TestVolumes(t *testing.T) {
	c := newCLI(t)
	c.ok("run", "--rm", "-v", "keep:/var/data", "base", "sh", "-c", "echo kept > /var/data/x")
	if out := c.ok("run", "--rm", "-v", "keep:/d:ro", "base", "cat", "/d/x"); out != "kept" {
		t.Errorf("%q", out)
	}
	if out := c.ok("volume", "ls", "-q", "--filter", "name=keep"); out != "keep" {
		t.Errorf("%q", out)
	}
	c.ok("create", "--name", "user-of-keep", "-v", "keep:/d", "base", "true")
	c.remove("user-of-keep")
	c.fails(125, "in use by container", "volume", "rm", "keep")
	c.ok("rm", "user-of-keep")
	c.ok("volume", "rm", "keep")
	c.fails(125, "no such volume", "volume", "inspect", "keep")

	// A new volume begins with what the image has at its place, owners included.
	if out := c.ok("run", "--rm", "-v", "home:/home", "base", "stat", "-c", "%u:%g", "/home/user"); out != "61000:61000" {
		t.Errorf("owner in a filled volume: %q", out)
	}
	c.ok("volume", "rm", "home")
}

// TestAnonymousVolumesGo: a container with --rm gives its own exit code, and
// takes along the volumes that were made for it, also if it could not start.
func TestAnonymousVolumesGo(t *testing.T) {
	c := newCLI(t)
	for range 5 {
		c.ok("run", "--rm", "-v", "/d", "base", "touch", "/d/x")
	}
	if r := c.run("run", "--rm", "--mount", "type=volume,target=/etc", "base", "sh", "-c", "exit 3"); r.code != 3 {
		t.Errorf("exit code %d, want 3: %s", r.code, r.stderr)
	}
	c.fails(127, "", "run", "--rm", "-v", "/d", "base", "no-such-command")
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		// Other tests have named ones in the same store.
		left := slices.DeleteFunc(strings.Fields(c.ok("volume", "ls", "-q")), func(name string) bool { return len(name) != 64 })
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("volumes are left: %q", left)
		}
	}
}

// TestVolumeBelongsToUser: what containers leave in a volume belongs to their users while a container has it, and to the
// user of the machine, who can delete it, when none has.
func TestVolumeBelongsToUser(t *testing.T) {
	c := newCLI(t)
	const look = "stat -c '%u:%g %a' /d /d/db /d/db/wal"
	const want = "33:33 700\n999:33 2500\n12:12 0"
	has := func(when, where string) {
		t.Helper()
		if out := c.ok("exec", where, "sh", "-c", look); out != want {
			t.Errorf("%s: %q, want %q", when, out, want)
		}
	}
	run := func(name string) {
		t.Helper()
		c.ok("run", "-d", "--name", name, "-v", "owned:/d", "base", "sleep", "1000")
		c.remove(name)
	}
	c.ok("run", "--rm", "-v", "owned:/d", "base", "sh", "-c",
		"mkdir -p /d/db/wal && touch /d/db/wal/file && chown -R 33:33 /d && chown 12:12 /d/db/wal && chown 999 /d/db && chmod 700 /d && chmod 2500 /d/db && chmod 0 /d/db/wal")
	defer c.run("volume", "rm", "owned")
	data := c.ok("volume", "inspect", "-f", "{{.Mountpoint}}", "owned")
	ours := func(when string, want bool) {
		t.Helper()
		_, err := os.ReadDir(filepath.Join(data, "db", "wal"))
		if (err == nil) != want {
			t.Errorf("%s: the user's own is %v, want %v (%v)", when, err == nil, want, err)
		}
	}
	ours("after the first run", true)
	run("owner-a")
	has("once more", "owner-a")
	run("owner-b")
	c.ok("stop", "-t", "0", "owner-a")
	has("while another one ends", "owner-b")
	ours("while it is used", false)
	if out := tarList(t, c.run("cp", "owner-a:/d", "-").stdout); len(out) < 2 || out[1] != "d/db/ 999:33 2500" {
		t.Errorf("archive: %q", out)
	}
	c.ok("stop", "-t", "0", "owner-b")
	ours("at the end", true)
	if out := tarList(t, c.run("cp", "owner-a:/d", "-").stdout); len(out) < 2 || out[1] != "d/db/ 999:33 2500" {
		t.Errorf("archive, of a stopped container: %q", out)
	}
	ours("after the archive", true)

	// A supervisor that is killed cannot give anything back; whoever removes the container does.
	c.ok("start", "owner-a")
	has("again", "owner-a")
	killSupervisor(t, c, "owner-a")
	ours("after kill -9", false)
	c.ok("rm", "-f", "owner-a", "owner-b")
	ours("after rm", true)

	// One that goes when it ends is removed by whoever comes next; what is left is found by a check.
	c.ok("run", "-d", "--rm", "--name", "owner-c", "-v", "owned:/d", "base", "sleep", "1000")
	has("with --rm", "owner-c")
	killSupervisor(t, c, "owner-c")
	until(t, "the removal", func() bool { return c.ok("ps", "-aq", "--filter", "name=owner-c") == "" })
	ours("after the next command", true)
	run("owner-a")
	killSupervisor(t, c, "owner-a")
	until(t, "its end", func() bool { return c.ok("inspect", "-f", "{{.State.Running}}", "owner-a") == "false" })
	what := "volumes/owned: directories in it are not yours, though no container has it"
	if r := c.run("system", "check", "-q"); r.code != 1 || !strings.Contains(r.stdout, what+"\n") {
		t.Errorf("check: %+v", r)
	}
	if r := c.run("system", "check", "-q", "--repair"); !strings.Contains(r.stdout, what+" (repaired)\n") {
		t.Errorf("repair: %+v", r)
	}
	ours("after the repair", true)
	c.ok("start", "owner-a")
	has("after all that", "owner-a")
	c.ok("rm", "-f", "owner-a")
	if err := os.RemoveAll(data); err != nil {
		t.Error(err)
	}
}

// TestPortsDiscarded: with a network that has no place for them, published ports are left out, which is said.
func TestPortsDiscarded(t *testing.T) {
	c := newCLI(t)
	c.remove("no-ports")
	for _, network := range []string{"host", "none"} {
		for _, publish := range [][]string{{"-p", "8080:80"}, {"-P", "--expose", "80"}} {
			r := c.run(append(append([]string{"create", "--replace", "--name", "no-ports", "--network", network}, publish...), "base", "true")...)
			if want := "mica: published ports are discarded: with --network " + network; r.code != 0 || !strings.HasPrefix(r.stderr, want) {
				t.Errorf("%s, %q: exit code %d, %q; want %q", network, publish, r.code, r.stderr, want)
			}
			if got := c.ok("inspect", "-f", "{{.HostConfig.NetworkMode}} {{len .HostConfig.PortBindings}}", "no-ports"); got != network+" 0" {
				t.Errorf("%s, %q: %s", network, publish, got)
			}
		}
	}
	c.ok("start", "-a", "no-ports")
}

// TestAttachInputOnly: who gives input and is shown no output gets the container's ID, to ask for the output by.
func TestAttachInputOnly(t *testing.T) {
	c := newCLI(t)
	c.remove("input-only")
	r := c.runInput("given\n", "run", "-i", "-a", "stdin", "--name", "input-only", "base", "sh", "-c", "cat; exit 3")
	if id := c.ok("inspect", "-f", "{{.Id}}", "input-only"); r.code != 3 || r.stdout != id+"\n" {
		t.Errorf("exit code %d, %q; want the ID %s", r.code, r.stdout, id)
	}
	if got := c.ok("logs", "input-only"); got != "given" {
		t.Errorf("the log has %q", got)
	}
	if r := c.runInput("", "run", "--rm", "-a", "stderr", "base", "sh", "-c", "echo out; echo err >&2"); r.stdout != "" || r.stderr != "err\n" {
		t.Errorf("attached to standard error: %q, %q", r.stdout, r.stderr)
	}
}

// TestMarks: a container finds what tells it that it is one, and a table of mounts; neither is a change, or goes along with
// what is exported.
func TestMarks(t *testing.T) {
	c := newCLI(t)
	c.remove("marked")
	got := c.ok("run", "--name", "marked", "base", "sh", "-c", "readlink /etc/mtab; stat -c '%s %u %a' /run/.containerenv; mkdir -p /run/lock; head -c 1 /etc/mtab | wc -c")
	if got != "/proc/mounts\n0 0 644\n1" {
		t.Errorf("%q", got)
	}
	if got := c.ok("diff", "marked"); got != "C /run\nA /run/lock" {
		t.Errorf("diff:\n%s", got)
	}
	for _, line := range tarList(t, c.run("export", "marked").stdout) {
		if strings.Contains(line, ".containerenv") || strings.Contains(line, "mtab") {
			t.Errorf("exported: %s", line)
		}
	}
	c.ok("commit", "marked", "marked")
	defer c.run("rmi", "marked")
	c.remove("unmarked")
	c.ok("create", "--name", "unmarked", "base", "true")
	if got := tarList(t, c.run("export", "unmarked").stdout); slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "run") }) {
		t.Errorf("exported: %q", got)
	}
}

// TestVolumesFrom: a container has the mounts of another one, whose volumes outlive it for as long as they are used.
func TestVolumesFrom(t *testing.T) {
	c := newCLI(t)
	host := t.TempDir()
	c.ok("run", "--name", "giver", "-v", "/anon", "-v", host+":/host", "--tmpfs", "/mem", "base", "sh", "-c", "echo a > /anon/a; echo h > /host/h")
	c.remove("giver")
	if out := c.ok("run", "--rm", "--volumes-from", "giver:ro", "base", "sh", "-c", "cat /anon/a /host/h; touch /anon/b || touch /host/b || ls -d /mem || true"); !strings.HasPrefix(out, "a\nh") || strings.Contains(out, "/mem") {
		t.Errorf("%q", out)
	}
	c.ok("run", "-d", "--name", "taker", "--volumes-from", "giver", "-v", host+":/anon/../other", "base", "sleep", "1000")
	c.remove("taker")
	c.ok("rm", "-v", "giver")
	if out := c.ok("exec", "taker", "sh", "-c", "cat /anon/a /other/h; echo b > /anon/b; cat /anon/b"); out != "a\nh\nb" {
		t.Errorf("after the other one is gone: %q", out)
	}
	c.fails(125, "no such container", "run", "--rm", "--volumes-from", "nobody", "base", "true")
	c.fails(125, "want NAME", "run", "--rm", "--volumes-from", "taker:up", "base", "true")
}

// TestPublishAll: each port that the image exposes has one of the host's.
func TestPublishAll(t *testing.T) {
	c := newCLI(t)
	c.ok("create", "--name", "published", "-P", "--expose", "8080", "--expose", "53/udp", "-p", "127.0.0.1::8080", "base", "true")
	c.remove("published")
	out := c.ok("inspect", "-f", "{{range $k, $v := .HostConfig.PortBindings}}{{$k}} {{range $v}}{{.HostIp}}{{end}}\n{{end}}", "published")
	if out = strings.ReplaceAll(out, " \n", "\n"); strings.TrimSpace(out) != "53/udp\n8080/tcp 127.0.0.1" {
		t.Errorf("%q", out)
	}
	if out := c.ok("inspect", "-f", "{{.HostConfig.NetworkMode}}", "published"); out != "pasta" {
		t.Errorf("network %q", out)
	}
}

// TestFillCutOff: a volume whose first fill failed is filled by the next container.
func TestFillCutOff(t *testing.T) {
	c := newCLI(t)
	c.remove("filler")
	c.ok("run", "--name", "filler", "base", "sh", "-c", "mkdir /big; echo a >/big/a; seq 1 300000 >/big/b; echo c >/big/c")
	c.ok("commit", "filler", "filler")
	c.ok("run", "--rm", "filler", "true") // unpacks it
	t.Cleanup(func() { c.run("volume", "rm", "cut-off"); c.run("rmi", "filler") })
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, "run", "--rm", "-v", "cut-off:/big", "filler", "true")
	cmd.Args = append([]string{"sh", "-c", `ulimit -f 1000; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "fill volume cut-off from /big") {
		t.Fatalf("the first one: %v, %s", err, out)
	}
	if got := c.ok("run", "--rm", "-v", "cut-off:/big", "filler", "sh", "-c", "cat /big/a /big/c; tail -n 1 /big/b"); got != "a\nc\n300000" {
		t.Errorf("the second one sees %q", got)
	}
}

// TestHostGateway: a container of a network of its own reaches what listens on the machine's loopback, if it is to.
func TestHostGateway(t *testing.T) {
	c := newCLI(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, "from the machine")
			conn.Close()
		}
	}()
	script := fmt.Sprintf("exec 3<>/dev/tcp/machine/%d && cat <&3", l.Addr().(*net.TCPAddr).Port)
	if out := c.ok("run", "--rm", "--network", "pasta", "--add-host", "machine:host-gateway", "host", "bash", "-c", script); out != "from the machine" {
		t.Errorf("it hears %q", out)
	}
}

// hostNamespaces is what a shell prints of those that a container may share.
func hostNamespaces(t *testing.T) string {
	out, err := exec.Command("sh", "-c", "readlink /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/cgroup; stat -c %d /dev/shm; uname -n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestEnvironmentOfCaller passes variables on by what their names begin with, or all, and leaves out some of the image's.
func TestEnvironmentOfCaller(t *testing.T) {
	c := newCLI(t)
	c.env = []string{"FO_A=1", "FO_B=2", "OTHER=3"}
	script := `echo "$FO_A$FO_B$OTHER$IMAGE"`
	c.remove("with-env")
	c.ok("run", "--name", "with-env", "-e", "IMAGE=4", "-e", "OTHER=image", "base", "true")
	c.ok("commit", "with-env", "with-env")
	for args, want := range map[string]string{
		"base": "", "-e FO* base": "12", "--env-host base": "123", "--env-host with-env": "12image4", "--unsetenv OTHER --unsetenv IMAGE with-env": "",
	} {
		line := append(append([]string{"run", "--rm"}, strings.Fields(args)...), "sh", "-c", script)
		if got := c.ok(line...); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

// TestIdleFlags: what a container can do without is said to have no effect, in one line.
func TestIdleFlags(t *testing.T) {
	c := newCLI(t)
	r := c.run("run", "--rm", "--memory-swap", "1g", "-c", "512", "--oom-kill-disable", "--annotation", "a=b", "base", "true")
	if want := "mica: without effect: --annotation, --cpu-shares, --memory-swap, --oom-kill-disable\n"; r.code != 0 || r.stderr != want {
		t.Errorf("exit code %d, %q; want %q", r.code, r.stderr, want)
	}
	for _, flag := range []string{"--ip=192.0.2.1", "--ip6=2001:db8::1", "--mac-address=02:00:00:00:00:01", "--network-alias=a", "--device-read-bps=/dev/null:1m",
		"--device-write-bps=/dev/null:1m", "--device-read-iops=/dev/null:1", "--device-write-iops=/dev/null:1", "--kernel-memory=1g", "--isolation=default",
		"--log-opt compress=true", "--log-opt tag=a", "--log-opt labels=a", "--log-opt env=A", "--log-opt mode=non-blocking"} {
		r := c.run(append(append([]string{"create", "--rm"}, strings.Fields(flag)...), "base", "true")...)
		c.remove(strings.TrimSpace(r.stdout))
		name, _, _ := strings.Cut(flag, "=")
		if want := "mica: without effect: " + name + "\n"; r.code != 0 || r.stderr != want {
			t.Errorf("exit code %d, %q; want %q", r.code, r.stderr, want)
		}
	}
}
