package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"mica/layerstore"
	"mica/run/record"
)

// TestDocuments asks for what scripts that were written for Docker ask for, in the form that they read.
func TestDocuments(t *testing.T) {
	c := newCLI(t)
	c.remove("doc")
	c.ok("run", "-d", "--name", "doc", "--expose", "100-101/udp", "--tmpfs", "/t:size=1m", "--health-cmd", "sleep 100", "base", "sleep", "1000")
	for format, want := range map[string]string{
		`{{range .NetworkSettings.Networks}}[{{.IPAddress}}]{{end}}`:      "[]",
		`{{json .NetworkSettings.Ports}}`:                                 `{"100/udp":null,"101/udp":null}`,
		`{{json .HostConfig.Tmpfs}} {{.HostConfig.PidMode}}`:              `{"/t":"size=1m"} `,
		`{{len .ExecIDs}} {{.ProcessLabel}}`:                              "0 ",
		`{{json .State.Health}}`:                                          `{"Status":"starting","FailingStreak":0,"Log":[]}`,
		`{{json .State.FinishedAt}} {{.State.FinishedAt}}`:                `"0001-01-01T00:00:00Z" 0001-01-01T00:00:00Z`,
		`{{range $p, $b := .NetworkSettings.Ports}}{{$p}}{{"\n"}}{{end}}`: "100/udp\n101/udp\n",
		`{{range .Mounts}}{{.Source}}{{"\n"}}{{end}}`:                     "",
		`{{range .Config.ExposedPorts}}x{{end}}`:                          "xx",
	} {
		if got := c.ok("inspect", "-f", format, "doc"); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	for _, args := range [][]string{
		{"inspect", "-f", "{{.State.StartedAt}}", "doc"}, {"inspect", "-f", "{{.Created}}", "doc"}, {"inspect", "-f", "{{.Created}}", "base"},
	} {
		if got, err := time.Parse(time.RFC3339Nano, c.ok(args...)); err != nil || got.IsZero() {
			t.Errorf("%q: %v", args, err)
		}
	}
	if got := c.ok("inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "doc"); !regexp.MustCompile(`^[0-9]+ [1-9][0-9]+$`).MatchString(got) {
		t.Errorf("sizes: %s", got)
	}
	if got := c.ok("image", "inspect", "-f", "{{.Metadata.LastTagTime}}", "base"); got != "0001-01-01T00:00:00Z" {
		t.Errorf("last tag: %s", got)
	}
	if version := c.ok("version", "-f", "{{.Client.Version}}"); version != c.ok("version", "-f", "{{.Server.Version}}") || version != c.ok("info", "-f", "{{.ServerVersion}}") {
		t.Errorf("the versions of client and server differ")
	}
	if got := c.ok("info", "-f", "{{.OperatingSystem}}|{{.SecurityOptions}}|{{gt .MemTotal 1000000}}"); strings.HasPrefix(got, "|") || !strings.HasSuffix(got, "name=rootless]|true") {
		t.Errorf("info shows %q", got)
	}
}

// TestFieldsByBothNames: templates know a field by its name in the JSON and by that in Docker's program.
func TestFieldsByBothNames(t *testing.T) {
	c := newCLI(t)
	for _, name := range []string{"by-names", "by-names-from"} {
		c.remove(name)
	}
	c.ok("create", "--name", "by-names", "-v", "by-names:/v", "-v", "/tmp:/host", "-p", "127.0.0.1::80", "--dns", "192.0.2.1", "--dns-search", "a.b", "--dns-opt", "ndots:2",
		"--sysctl", "net.core.somaxconn=7", "base", "true")
	c.ok("create", "--name", "by-names-from", "--volumes-from", "by-names:ro", "base", "true")
	for _, test := range []struct{ object, format, want string }{
		{"by-names", "{{eq .ID .Id}} {{len .ID}}", "true 64"},
		{"base", "{{eq .ID .Id}} {{len .ID}}", "true 71"},
		{"by-names", "{{.HostConfig.NanoCPUs}} {{.HostConfig.NanoCpus}} {{.HostConfig.CPUShares}} {{.HostConfig.CpuShares}}", "0 0 0 0"},
		{"by-names", "{{.HostConfig.DNS}} {{.HostConfig.DNSSearch}} {{.HostConfig.DNSOptions}} {{.HostConfig.Dns}}", "[192.0.2.1] [a.b] [ndots:2] [192.0.2.1]"},
		{"by-names", `{{range index .HostConfig.PortBindings "80/tcp"}}{{.HostIP}} {{.HostIp}}{{end}}`, "127.0.0.1 127.0.0.1"},
		{"by-names", "{{json .Config.ExposedPorts}}", `{"80/tcp":{}}`},
		{"by-names", "{{json .HostConfig.VolumesFrom}} {{.HostConfig.Sysctls}} {{.HostConfig.MemorySwap}} {{.HostConfig.Runtime}}", "null map[net.core.somaxconn:7] 0 mica"},
		{"by-names-from", "{{.HostConfig.VolumesFrom}}", "[by-names:ro]"},
		{"by-names", "[{{.AppArmorProfile}}{{.NetworkSettings.SandboxKey}}]", "[]"},
		{"by-names", "{{range .Mounts}}{{.Destination}} [{{.Driver}}] [{{.Propagation}}] {{end}}", "/v [local] [] /host [] [rprivate] "},
	} {
		if got := c.ok("inspect", "-f", test.format, test.object); got != test.want {
			t.Errorf("%s of %s: %q, want %q", test.format, test.object, got, test.want)
		}
	}
}

// TestMomentOfGo reads a time as Go prints it.
func TestMomentOfGo(t *testing.T) {
	want := time.Date(2026, 11, 30, 8, 9, 31, 500_000_000, time.UTC)
	if got, err := parseMoment(want.String()); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestTop lists processes whoever they belong to, in the forms of Docker and Podman.
func TestTop(t *testing.T) {
	c := newCLI(t)
	c.remove("top")
	c.ok("run", "-d", "--name", "top", "-u", "33", "base", "sleep", "1234")
	// A process has its new name a moment before it has its new arguments.
	until(t, "the program", func() bool { return strings.Contains(c.ok("top", "top"), "sleep 1234") })
	for _, args := range []string{"", "aux", "-o pid,args", "-o args", "axf", "pid user args"} {
		out := c.ok(append([]string{"top", "top"}, strings.Fields(args)...)...)
		if lines := strings.Split(out, "\n"); len(lines) != 2 || !strings.Contains(lines[1], "sleep 1234") {
			t.Errorf("top %s shows %q", args, out)
		}
	}
	c.fails(125, "ps --nothing:", "top", "top", "--nothing")
}

// TestCommandShown quotes what would look like several arguments.
func TestCommandShown(t *testing.T) {
	cfg := &record.Config{Container: layerstore.ContainerConfig{Entrypoint: []string{"/my sh", "-c"}, Cmd: []string{"exit 3"}}}
	if got := commandShown(cfg); got != "/my sh -c 'exit 3'" {
		t.Errorf("%s", got)
	}
}

// TestOfPodman has what Podman's users are used to.
func TestOfPodman(t *testing.T) {
	c := newCLI(t)
	for _, name := range []string{"pod-b", "pod-a"} {
		c.remove(name)
		c.ok("run", "--name", name, "-l", "of=podman", "base", "sh", "-c", "echo $0", name)
	}
	for args, code := range map[string]int{
		"container exists pod-a": 0, "container exists none": 1, "image exists base": 0, "image exists none": 1, "volume exists none": 1,
		"wait --condition created none": 125,
	} {
		if r := c.run(strings.Fields(args)...); r.code != code {
			t.Errorf("%s: exit code %d, %s", args, r.code, r.stderr)
		}
	}
	for args, want := range map[string]string{
		"logs --details pod-a pod-b":                                  "pod-a\npod-b",
		"ps -a --sort names -f label=of=podman --format {{.Names}}":   "pod-a\npod-b",
		"ps -a --sort created -f label=of=podman --format {{.Names}}": "pod-b\npod-a",
		"wait --condition stopped pod-a pod-b":                        "0\n0",
	} {
		if got := c.ok(strings.Fields(args)...); got != want {
			t.Errorf("%s: %q", args, got)
		}
	}
	c.ok("start", "pod-a")
	if got := c.ok("wait", "--condition", "exited", "pod-a"); got != "0" {
		t.Errorf("wait prints %q", got)
	}
	c.ok("save", "-q", "-m", "-o", "/dev/null", "base")
	c.fails(125, "--sort", "ps", "--sort", "bogus")
	c.ok("tag", "base", "pod:1")
	c.ok("untag", "base", "pod:1")
	c.fails(125, "no such image", "image", "inspect", "pod:1")
}

// TestDaemonFlags: what stands before the command for a daemon is noted and left out.
func TestDaemonFlags(t *testing.T) {
	c := newCLI(t)
	r := c.run("-H", "unix:///run/docker.sock", "--context=default", "-D", "--log-level", "debug", "run", "--rm", "base", "sh", "-c", "echo $0", "-D")
	if r.code != 0 || r.stdout != "-D\n" || r.stderr != "mica: without effect: -H, --context, -D, --log-level\n" {
		t.Errorf("%+v", r)
	}
}
