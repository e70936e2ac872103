package generated

import (
	"strings"
	"testing"

	"mica/run/record"
)

// TestReachableServers: where only pasta leads to the machine's own name server, that is asked through it.
func TestReachableServers(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "",
		"nameserver 192.0.2.1\nsearch lan\n":   "nameserver 192.0.2.1\nsearch lan\n",
		"search lan\nnameserver 127.0.0.53\n":  "search lan\nnameserver 169.254.1.1\n",
		"nameserver\t127.0.0.1":                "nameserver 169.254.1.1\n",
		"nameserver ::1\nnameserver 127.0.0.1": "nameserver 169.254.1.1\n",
		"nameserver 127.0.0.1\nnameserver ::ffff:127.0.0.1\noptions edns0": "nameserver 169.254.1.1\noptions edns0",
		"nameserver 127.0.0.1\nnameserver 192.0.2.1\n":                     "nameserver 169.254.1.1\nnameserver 192.0.2.1\n",
		"# nameserver 127.0.0.1\nnameserver 2001:db8::1%eth0\n":            "# nameserver 127.0.0.1\nnameserver 2001:db8::1%eth0\n",
	} {
		if got := string(reachableServers([]byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestOwnNames(t *testing.T) {
	for given, want := range map[[2]string]string{
		{"a", ""}: "a", {"a.b.c", ""}: "a.b.c a", {"a", "b.c"}: "a.b.c a", {"a.b", "c"}: "a.b.c a.b a",
	} {
		if got := strings.Join(ownNames(given[0], given[1]), " "); got != want {
			t.Errorf("%q: %s, want %s", given, got, want)
		}
	}
}

// TestMachineNames: a container that is to reach the machine finds it by the usual names as well, unless they are given.
func TestMachineNames(t *testing.T) {
	gateway, none := defaultGateway()
	for _, test := range []struct {
		given []string
		want  string
	}{
		{[]string{"m:192.0.2.9"}, "192.0.2.9\tm\n"},
		{[]string{"m:host-gateway"}, "GW\tm\nGW\thost.docker.internal\nGW\thost.containers.internal\n"},
		{[]string{"m:host-gateway", "host.docker.internal:192.0.2.9"}, "GW\tm\n192.0.2.9\thost.docker.internal\nGW\thost.containers.internal\n"},
	} {
		want := localHosts + strings.ReplaceAll(test.want, "GW", gateway) + "127.0.1.1\tweb\n"
		cfg := &record.Config{Host: record.HostConfig{Network: "pasta", ExtraHosts: test.given}}
		cfg.Container.Hostname = "web"
		got, err := hostsFile(cfg)
		switch {
		case none != nil && strings.Contains(test.want, "GW"): // on a machine that no address leads to
			if err == nil {
				t.Errorf("%q: no error", test.given)
			}
		case err != nil || string(got) != want:
			t.Errorf("%q: %q, %v; want %q", test.given, got, err, want)
		}
	}
}
