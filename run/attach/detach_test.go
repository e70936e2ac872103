package attach

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

func TestParseDetachKeys(t *testing.T) {
	for in, want := range map[string][]byte{
		"ctrl-p,ctrl-q": {16, 17}, "a": {'a'}, "ctrl-]": {29}, "ctrl-@,x": {0, 'x'}, "": nil,
	} {
		got, err := ParseDetachKeys(in)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"ctrl-", "ctrl-pq", "alt-x", "a,,b", "ctrl-1"} {
		if _, err := ParseDetachKeys(in); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestDetachReader(t *testing.T) {
	for _, c := range []struct {
		in, out  string
		detached bool
	}{
		{"plain", "plain", false},
		{"ab\x10\x11cd", "ab", true},
		{"a\x10b", "a\x10b", false},
		{"\x10\x10\x11", "\x10", true},
		{"\x10", "\x10", false},
		{"", "", false},
	} {
		for name, r := range map[string]io.Reader{
			"at once": bytes.NewReader([]byte(c.in)), "by bytes": iotest.OneByteReader(bytes.NewReader([]byte(c.in))),
		} {
			got, err := io.ReadAll(&detachReader{r: r, keys: []byte{16, 17}})
			if string(got) != c.out || (err == ErrDetached) != c.detached {
				t.Errorf("%q %s: %q, %v", c.in, name, got, err)
			}
		}
	}
}
