package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestChangedMeanwhile writes files that are other ones than when the step was looked up: the archive must not end.
func TestChangedMeanwhile(t *testing.T) {
	reads, mode := 0, int64(0o644)
	content := []string{"one", "one", "two", "one"}
	items := []item{{source: "f", name: "f", pack: func(_ context.Context, fn entryFunc) error {
		reads++
		return fn(&tar.Header{Typeflag: tar.TypeReg, Name: ".", Mode: mode, Size: 3}, strings.NewReader(content[reads-1]))
	}}}
	sum, err := contentOf(context.Background(), items, new(look))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		mode int64
		want error
	}{{"the same", 0o644, nil}, {"other content", 0o644, errChanged}, {"another mode", 0o755, errChanged}} {
		mode = step.mode
		f := &filler{ctx: context.Background(), look: new(look), sum: newSummer(), w: tar.NewWriter(io.Discard), dest: "/", made: map[string]bool{}}
		if err := f.write(items, sum); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.what, err, step.want)
		}
	}
}
