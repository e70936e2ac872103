package build

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

// openContext opens a directory with an ignore file of these patterns.
func openContext(t *testing.T, dir string, patterns ...string) *Dir {
	t.Helper()
	ignore := filepath.Join(t.TempDir(), "ignore")
	if err := os.WriteFile(ignore, []byte(strings.Join(patterns, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(dir, filepath.Join(dir, "no-such-file"), ignore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// packed lists what is packed of a path.
func packed(t *testing.T, s source, p string) (names []string) {
	t.Helper()
	err := s.pack(context.Background(), p, func(h *tar.Header, content io.Reader) error {
		if h.Typeflag == tar.TypeReg {
			if n, err := io.Copy(io.Discard, content); err != nil || n != h.Size {
				t.Errorf("%s: %d bytes of %d, %v", h.Name, n, h.Size, err)
			}
		}
		names = append(names, h.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestIgnored packs random trees: exactly what the patterns leave, the directories on the way to it, and no directory twice. Nothing
// else is found.
func TestIgnored(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		word := func() string { return string("abc"[r.IntN(3)]) }
		for range 12 {
			p := filepath.Join(dir, word(), word(), word())
			if r.IntN(3) > 0 {
				p = filepath.Join(dir, word(), word())
			}
			if os.MkdirAll(filepath.Dir(p), 0o755) == nil {
				_ = os.WriteFile(p, []byte(p), 0o644) // a directory may be there
			}
		}
		var patterns []string
		for range r.IntN(5) {
			p := []string{word(), word() + "/" + word(), "**/" + word(), word() + "/*", "*"}[r.IntN(5)]
			patterns = append(patterns, []string{"", "!"}[r.IntN(2)]+p)
		}
		matcher, err := patternmatcher.New(patterns)
		if err != nil {
			t.Fatal(err)
		}
		want, found := map[string]bool{".": true}, make(map[string]bool)
		d := openContext(t, dir, patterns...)
		err = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(dir, p)
			if _, _, err := d.find(context.Background(), rel); err == nil {
				found[rel] = true
			}
			if out, _ := matcher.MatchesOrParentMatches(rel); rel == "." || out {
				return err
			}
			for ; rel != "."; rel = path.Dir(rel) {
				want[rel] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(found, want) {
			t.Fatalf("seed %d, patterns %q: found %v, want %v", seed, patterns, found, want)
		}
		got := packed(t, d, ".")
		seen := make(map[string]bool)
		for _, name := range got {
			if seen[name] || !want[name] || name != "." && !seen[path.Dir(name)] {
				t.Fatalf("seed %d, patterns %q: %s is packed twice, before its parent, or against them: %q", seed, patterns, name, got)
			}
			seen[name] = true
		}
		if len(seen) != len(want) {
			t.Fatalf("seed %d, patterns %q: packed %q, want %v", seed, patterns, got, want)
		}
	}
}

// TestContextBounds: whatever symlinks say, nothing outside of the context is read.
func TestContextBounds(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "context")
	for _, d := range []string{"sub", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"secret": "secret", "context/etc/passwd": "inside", "context/sub/f": "f"} {
		if err := os.WriteFile(filepath.Join(outer, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"up": "../secret", "absolute": "/etc/passwd", "out": outer + "/secret", "loop": "loop", "dir": "sub", "deep": "dir/../sub/f",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := openContext(t, dir)
	ctx := context.Background()
	for p, want := range map[string]string{
		"absolute": "etc/passwd", "dir": "sub", "dir/f": "sub/f", "deep": "sub/f", "../../etc/passwd": "etc/passwd", ".": ".", "sub/..": ".",
	} {
		if at, _, err := d.find(ctx, p); err != nil || at != want {
			t.Errorf("%s: %s, %v; want %s", p, at, err, want)
		}
	}
	for _, p := range []string{"up", "out", "loop", "none", "sub/f/g"} {
		if at, _, err := d.find(ctx, p); err == nil {
			t.Errorf("%s leads to %s", p, at)
		}
	}
	if got := packed(t, d, "sub"); !slices.Equal(got, []string{".", "f"}) {
		t.Errorf("packed %q", got)
	}
}

// TestGlob expands patterns as path.Match has them, one level for each part.
func TestGlob(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x.go", "a/y.go", "a/z.c", "b/x.go", "b/in/x.go", "[odd]"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := openContext(t, dir, "a/y.go")
	for pattern, want := range map[string]string{
		"*/*.go": "[a/x.go b/x.go]", "a/*": "[a/x.go a/z.c]", "*/in/?.go": "[b/in/x.go]", "a/*/none": "[]", `\[odd\]`: "[[odd]]", "**/x.go": "[a/x.go b/x.go b/in/x.go]", "b/**/x.go": "[b/x.go b/in/x.go]", "[[]odd]": "[[odd]]",
		"no*": "[]", "*/none": "[]", "a/x.go/*": "[]", "a/x.go": "[a/x.go]", ".": "[.]",
		"none": "there is no none", "none/*": "there is no none", `no\*`: `there is no no\*`, "a/none/*.go": "there is no a/none", "a/y.go": "there is no a/y.go: the ignore file leaves it out",
	} {
		g := globber{src: d, anyDepth: true}
		got, err := g.paths(context.Background(), ".", pattern)
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%s: %s, want %s", pattern, text, want)
		}
	}
}
