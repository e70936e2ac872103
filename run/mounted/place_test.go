package mounted

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPackAnyName: what is mounted from the host is copied whatever its names are made of, and in order.
func TestPackAnyName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"d", "d/not \xff UTF-8", "d/not \xff UTF-8/in", "d/.z"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "d/not \xff UTF-8/in/\xfe"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[spot][]string{
		{dir: dir, Path: "d"}:                        {"as/", "as/.z/", "as/not \xff UTF-8/", "as/not \xff UTF-8/in/", "as/not \xff UTF-8/in/\xfe"},
		{dir: dir, Path: "."}:                        {"as/", "as/d/", "as/d/.z/", "as/d/not \xff UTF-8/", "as/d/not \xff UTF-8/in/", "as/d/not \xff UTF-8/in/\xfe"},
		{dir: filepath.Join(dir, "d"), Path: "."}:    {"as/", "as/.z/", "as/not \xff UTF-8/", "as/not \xff UTF-8/in/", "as/not \xff UTF-8/in/\xfe"},
		{dir: dir, Path: "d/not \xff UTF-8/in/\xfe"}: {"as"},
	} {
		var out bytes.Buffer
		if err := place.pack(&out, "as", false); err != nil {
			t.Errorf("%q: %v", place.Path, err)
			continue
		}
		var got []string
		for in := tar.NewReader(&out); ; {
			h, err := in.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, h.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", place.Path, got, want)
		}
	}
}
