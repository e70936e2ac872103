package portspec

import "testing"

func TestParse(t *testing.T) {
	for in, want := range map[string]string{"80": "80/tcp", "65535/udp": "65535/udp", "1-3/SCTP": "1-3/sctp", "5-5": "5/tcp"} {
		if got, err := Parse(in); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "0-1", "65536", "3-1", "1-", "-1", "1-2-3", "http", "80/", "80/icmp", "80/tcp/udp", " 80"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q: %s", in, got)
		}
	}
}
