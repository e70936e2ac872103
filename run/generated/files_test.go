package generated

import (
	"strings"
	"testing"
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
