package main

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"mica/run/record"
)

func TestParseVolume(t *testing.T) {
	dir := t.TempDir()
	for in, want := range map[string]record.Mount{
		"data:/srv":           {Type: record.MountVolume, Volume: "data", Target: "/srv"},
		"data:/srv/:ro":       {Type: record.MountVolume, Volume: "data", Target: "/srv", ReadOnly: true},
		"/srv":                {Type: record.MountVolume, Target: "/srv"},
		dir + ":/a:ro,noexec": {Type: record.MountBind, Source: dir, Target: "/a", ReadOnly: true, NoExec: true},
		"data:/srv:nocopy,z":  {Type: record.MountVolume, Volume: "data", Target: "/srv", NoCopy: true},
	} {
		got, err := parseMounts([]string{in}, nil, nil)
		if err != nil || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", ":/x", "a:", "data:srv", "data:/", "a:b:c:d", "data:/srv:what", "-x:/srv", "a/b:/srv"} {
		if got, err := parseMounts([]string{in}, nil, nil); err == nil {
			t.Errorf("%q: no error, %+v", in, got)
		}
	}
}

func TestParseVolumeMakesHostDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	if _, err := parseMounts([]string{dir + ":/a"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		t.Errorf("%v, %v", st, err)
	}
}

func TestParseMount(t *testing.T) {
	dir := t.TempDir()
	for in, want := range map[string]record.Mount{
		"type=bind,source=" + dir + ",target=/a,readonly":          {Type: record.MountBind, Source: dir, Target: "/a", ReadOnly: true},
		"type=volume,src=data,dst=/a,volume-nocopy":                {Type: record.MountVolume, Volume: "data", Target: "/a", NoCopy: true},
		"type=bind,src=" + dir + ",dst=/a,bind-propagation=rslave": {Type: record.MountBind, Source: dir, Target: "/a"},
		"src=data,destination=/a,ro=false":                         {Type: record.MountVolume, Volume: "data", Target: "/a"},
		"type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770":       {Type: record.MountTmpfs, Target: "/t", Options: "size=1048576,mode=1770", NoExec: true, NoSuid: true, NoDev: true},
	} {
		got, err := parseMounts(nil, []string{in}, nil)
		if err != nil || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"type=bind,dst=/a", "type=bind,src=" + dir + ",dst=/a,bind-propagation=shared", "type=bind,src=/no/such/path,dst=/a", "type=what,dst=/a", "type=tmpfs,src=x,dst=/a", "nonsense", "type=tmpfs,target=/t,tmpfs-size=x"} {
		if got, err := parseMounts(nil, []string{in}, nil); err == nil {
			t.Errorf("%q: no error, %+v", in, got)
		}
	}
}

// TestMountAccess: every spelling says for every type whether it can be written to, and the last word counts.
func TestMountAccess(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"type=volume,src=data", "type=bind,src=" + dir, "type=tmpfs", "type=image,src=base"} {
		for words, want := range map[string]bool{
			"": strings.HasPrefix(kind, "type=image"), ",ro": true, ",ro=true": true, ",ro=false": false, ",readonly": true, ",readonly=true": true,
			",readonly=false": false, ",rw": false, ",rw=true": false, ",rw=false": true, ",readwrite=false": true, ",ro,rw": false, ",rw,ro": true,
		} {
			got, err := parseMounts(nil, []string{kind + ",dst=/a" + words}, nil)
			if err != nil || got[0].ReadOnly != want {
				t.Errorf("%s%s: %+v, %v; want read-only %v", kind, words, got, err, want)
			}
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	got, err := parseMounts(nil, nil, []string{"/t:size=1m,exec,ro"})
	want := record.Mount{Type: record.MountTmpfs, Target: "/t", Options: "size=1m", NoSuid: true, NoDev: true, ReadOnly: true}
	if err != nil || !reflect.DeepEqual(got[0], want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseMounts(nil, nil, []string{"/t:lowerdir=/etc"}); err == nil {
		t.Error("a foreign option is taken")
	}
}

func TestParsePorts(t *testing.T) {
	for in, want := range map[string][]record.Port{
		"80":                  {{Container: 80, Protocol: "tcp"}},
		"80-81/udp":           {{Container: 80, Protocol: "udp"}, {Container: 81, Protocol: "udp"}},
		":80":                 {{Container: 80, Protocol: "tcp"}},
		"127.0.0.1::80":       {{HostIP: "127.0.0.1", Container: 80, Protocol: "tcp"}},
		"[::1]::80":           {{HostIP: "::1", Container: 80, Protocol: "tcp"}},
		"8080:80":             {{Host: 8080, Container: 80, Protocol: "tcp"}},
		"127.0.0.1:53:53/udp": {{HostIP: "127.0.0.1", Host: 53, Container: 53, Protocol: "udp"}},
		"[::1]:8080:80":       {{HostIP: "::1", Host: 8080, Container: 80, Protocol: "tcp"}},
		"7000-7001:80-81":     {{Host: 7000, Container: 80, Protocol: "tcp"}, {Host: 7001, Container: 81, Protocol: "tcp"}},
	} {
		got, err := parsePorts([]string{in})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "80:x", "70000:80", "1-3:1-2", "3-1:3-1", "80/sctp", "a:b:c:d", "[::1", "localhostx:8080:80", "1.2.3:8080:80", "[::1x]:8080:80", "[]:80:0"} {
		if got, err := parsePorts([]string{in}); err == nil {
			t.Errorf("%q: no error, %+v", in, got)
		}
	}
}

func TestChooseNetwork(t *testing.T) {
	for name, want := range map[string][2]string{ // without and with published ports
		"": {"host", "pasta"}, "default": {"host", "pasta"}, "bridge": {"pasta", "pasta"}, "private": {"pasta", "pasta"},
		"pasta": {"pasta", "pasta"}, "host": {"host", "host"}, "none": {"none", "none"},
	} {
		for i, ports := range []bool{false, true} {
			if got, err := chooseNetwork(name, ports); err != nil || got != want[i] {
				t.Errorf("%q, ports %v: %q, %v; want %q", name, ports, got, err, want[i])
			}
		}
	}
	if got, err := chooseNetwork("what", false); err == nil {
		t.Errorf("a network that there is not: %q", got)
	}
}

func TestParseUlimits(t *testing.T) {
	got, err := parseUlimits([]string{"nofile=10:20", "core=-1", "nproc=unlimited", "cpu=5"})
	want := []record.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}, {Name: "core", Soft: -1, Hard: -1}, {Name: "nproc", Soft: -1, Hard: -1}, {Name: "cpu", Soft: 5, Hard: 5}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, in := range []string{"nofile", "nofile=x", "nofile=20:10", "what=1", "nofile=-2", "nofile=-1:5"} {
		if _, err := parseUlimits([]string{in}); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

// TestNoLimits: 0 is no limit, whatever it is of.
func TestNoLimits(t *testing.T) {
	for _, f := range []containerFlags{{memory: "0"}, {memory: "0b"}, {cpus: "0"}, {cpus: "0.0"}, {pidsLimit: 0}, {pidsLimit: -1}, {shmSize: "0"}} {
		h := new(record.HostConfig)
		if err := f.limits(h); err != nil || !reflect.DeepEqual(h, new(record.HostConfig)) {
			t.Errorf("%q %q %q: %+v, %v", f.memory, f.cpus, f.shmSize, h, err)
		}
	}
	for _, f := range []containerFlags{{memory: "5m"}, {memory: "-1"}, {cpus: "-1"}, {cpus: "NaN"}, {cpus: "inf"}, {shmSize: "x"}} {
		if err := f.limits(new(record.HostConfig)); err == nil {
			t.Errorf("%q %q %q: no error", f.memory, f.cpus, f.shmSize)
		}
	}
}

// TestCPUQuota: a quota and its period say what --cpus says.
func TestCPUQuota(t *testing.T) {
	for f, want := range map[[2]int64]float64{{150_000, 0}: 1.5, {150_000, defaultCPUPeriod}: 1.5, {5000, 10_000}: 0.5, {0, 10_000}: 0, {-1, 0}: 0} {
		h := new(record.HostConfig)
		flags := containerFlags{cpuQuota: f[0], cpuPeriod: f[1]}
		_ = flags.limits(h) // there may be no cgroup to set it in
		if h.CPUs != want {
			t.Errorf("%d in %d are %g, want %g", f[0], f[1], h.CPUs, want)
		}
	}
	for words, f := range map[string]containerFlags{"exclude each other": {cpus: "1", cpuQuota: 1000}, "want microseconds": {cpuQuota: 1000, cpuPeriod: 10}} {
		if err := f.limits(new(record.HostConfig)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v, want %q", f, err, words)
		}
	}
}

func TestCheckPlatform(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, ownPlatform: true, runtime.GOARCH: true, ownPlatform + "/v1": true, strings.ToUpper(ownPlatform): true,
		"linux/s390x": false, "windows/" + runtime.GOARCH: false, "linux": false,
	} {
		if err := checkPlatform(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseRestart(t *testing.T) {
	for in, want := range map[string]record.RestartPolicy{
		"no": {}, "always": {Name: "always"}, "on-failure": {Name: "on-failure"}, "on-failure:3": {Name: "on-failure", MaxRetries: 3}, "unless-stopped": {Name: "unless-stopped"},
	} {
		if got, err := parseRestart(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"sometimes", "always:3", "on-failure:x", "on-failure:-1"} {
		if _, err := parseRestart(in); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestFilters(t *testing.T) {
	f, err := parseFilters([]string{"label=a=1", "label=b", "label!=c", "status=exited", "status=created"}, "label", "label!", "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		labels map[string]string
		want   bool
	}{
		{map[string]string{"a": "1", "b": ""}, true}, {map[string]string{"a": "2", "b": ""}, false}, {map[string]string{"a": "1"}, false},
		{map[string]string{"a": "1", "b": "", "c": "x"}, false},
	} {
		if got := f.labels(c.labels); got != c.want {
			t.Errorf("%v: %v", c.labels, got)
		}
	}
	if !f.any("status", func(v string) bool { return v == "created" }) || f.any("status", func(v string) bool { return v == "dead" }) {
		t.Error("values of one key are not alternatives")
	}
	for _, bad := range []string{"what=1", "status", ""} {
		if _, err := parseFilters([]string{bad}, "status"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestNameFilter(t *testing.T) {
	for pattern, want := range map[string]bool{"data": true, "ata": true, "^data$": false, "^data-[0-9]+$": true, "^ata": false, "d.*1$": true} {
		named, err := filters{"name": {pattern, "other"}}.names()
		if err != nil || named("data-1") != want {
			t.Errorf("%s: %v, %v", pattern, named("data-1"), err)
		}
	}
	if named, err := (filters{}).names(); err != nil || !named("any") {
		t.Errorf("without a condition: %v", err)
	}
	if _, err := (filters{"name": {"("}}).names(); err == nil {
		t.Error("( is taken for a regular expression")
	}
}

func TestMomentAt(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.Local)
	for in, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "2026-01-01": time.Date(2026, 1, 1, 0, 0, 0, 0, time.Local), "1000": time.Unix(1000, 0),
		"2026-11-30T15:00:07.5Z": time.Date(2026, 11, 30, 15, 0, 7, 5e8, time.UTC), "2026-11-30T15:00+01:00": time.Date(2026, 11, 30, 14, 0, 0, 0, time.UTC),
		"2026-11-30T15-02:00": time.Date(2026, 11, 30, 17, 0, 0, 0, time.UTC), "2026-11-30Z": time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC),
		"2026-11-30T15": time.Date(2026, 11, 30, 15, 0, 0, 0, time.Local), "2026-11-30T15:01": time.Date(2026, 11, 30, 15, 1, 0, 0, time.Local),
		"2026-11-30 15:01:02.25": time.Date(2026, 11, 30, 15, 1, 2, 25e7, time.Local),
	} {
		if got, err := momentAt(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	if _, err := momentAt("yesterday", now); err == nil {
		t.Error("a word is taken for a time")
	}
}

func TestParsePlace(t *testing.T) {
	for in, want := range map[string]place{
		"web:/etc": {"web", "/etc"}, "web:": {"web", ""}, "./a:b": {"", "./a:b"}, "/a:b": {"", "/a:b"}, "-": {"", "-"}, "plain": {"", "plain"},
	} {
		if got := parsePlace(in); got != want {
			t.Errorf("%s: %+v", in, got)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string][2]string{
		"debian:12": {"debian", "12"}, "host:5000/app:1": {"host:5000/app", "1"}, "host:5000/app": {"host:5000/app", "<none>"}, "": {"<none>", "<none>"},
	} {
		if repo, tag := splitName(in); repo != want[0] || tag != want[1] {
			t.Errorf("%q: %s, %s", in, repo, tag)
		}
	}
	for _, c := range []struct {
		name, pattern string
		want          bool
	}{{"debian:12", "debian", true}, {"debian:12", "debian:*", true}, {"debian:12", "deb*", true}, {"debian:12", "ubuntu", false}, {"a/debian:12", "debian", true}} {
		if got := nameMatches(c.name, c.pattern); got != c.want {
			t.Errorf("%s, %s: %v", c.name, c.pattern, got)
		}
	}
}

// TestLogLimits: a log has limits, unless it is said that it has none.
func TestLogLimits(t *testing.T) {
	for opts, want := range map[string]record.Log{
		"":                       {MaxSize: 20 << 20, Files: 5},
		"max-file=3":             {MaxSize: 20 << 20, Files: 3},
		"max-size=1k":            {MaxSize: 1 << 10},
		"max-size=-1":            {},
		"max-size=1k max-file=2": {MaxSize: 1 << 10, Files: 2},
		"tag=a max-size=1k":      {MaxSize: 1 << 10},
	} {
		if got, err := parseLog("json-file", strings.Fields(opts)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", opts, got, err, want)
		}
	}
}
