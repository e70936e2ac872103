package imageref

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// seeds are names of every kind, good and bad.
var seeds = []string{
	"debian", "debian:12", "user/app", "library/debian", "docker.io/debian", "docker.io/library/debian:x", "index.docker.io/a", "docker.io/a/b/c",
	"localhost/app", "localhost:5000/app:1", "host.example/app", "host.example:5000/a/b:tag", "[::1]:5000/app", "[fe80::1]/app", "[]/app", "Host/app",
	"debian@sha256:" + hex64, "debian:12@sha256:" + hex64, "debian@sha256:0123", "debian@md5:" + hex64[:32], "debian@", "@sha256:" + hex64,
	hex64, hex64[:63], "", ":", "/", "a:", ":a", "a/", "/a", "a//b", "A", "a/B", "UP/low", "a..b", "a._b", "a__b", "a___b", "a--b", "a-.b", "-a", "a-", "_a", "a_",
	"a:.tag", "a:-tag", "a:_tag", "a:tag.x-y", "a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), "a b", "a\n", "é", "a.b/c", "-h.x/c", "h-.x/c",
	"h..x/c", "h.x:/c", "h.x:y/c", "h:1", "h:1/", "h_x.y/c", "library/a/b", strings.Repeat("a", 245), strings.Repeat("a", 247), strings.Repeat("a", 256),
	"x.y/" + strings.Repeat("a", 251), "x.y/" + strings.Repeat("a", 252), "docker.io/library/library/a",
}

// agree holds a name against the reference implementation of the grammar.
func agree(t *testing.T, s string) {
	t.Helper()
	named, wantErr := reference.ParseNormalizedNamed(s)
	got, err := Parse(s)
	if (err == nil) != (wantErr == nil) {
		t.Errorf("%q: %v; the reference says %v", s, err, wantErr)
		return
	}
	if err != nil {
		return
	}
	if want := reference.FamiliarName(named); got.Name != want {
		t.Errorf("%q: name %q, want %q", s, got.Name, want)
	}
	if tagged, ok := named.(reference.Tagged); ok && tagged.Tag() != got.Tag || !ok && got.Tag != "" {
		t.Errorf("%q: tag %q", s, got.Tag)
	}
	if digested, ok := named.(reference.Digested); ok && digested.Digest().String() != got.Digest || !ok && got.Digest != "" {
		t.Errorf("%q: digest %q", s, got.Digest)
	}
	if got.Digest == "" {
		if want := reference.FamiliarString(reference.TagNameOnly(named)); got.Tagged() != want {
			t.Errorf("%q: %q, want %q", s, got.Tagged(), want)
		}
		if want := reference.TagNameOnly(named).String(); got.FullTagged() != want {
			t.Errorf("%q: %q, want %q", s, got.FullTagged(), want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, s := range seeds {
		agree(t, s)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(agree)
}

func TestCanBeID(t *testing.T) {
	whole := strings.Repeat("0123456789abcdef", 4)
	for s, want := range map[string]bool{whole: true, "c0ffee": true, "": false, "C0FFEE": false, "web": false, whole + "0": false} {
		if CanBeID(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
