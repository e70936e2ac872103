package layerstore

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// A gzip stream may have several members, as parallel compressors write it.
func TestImportGzipMembers(t *testing.T) {
	archive := makeTar(t, file("a", strings.Repeat("x", 10_000)), file("b", "y"))
	data := append(compressed(t, gzipped, archive[:5000]), compressed(t, gzipped, archive[5000:])...)
	s := newStore(t)
	img, err := s.Import(context.Background(), bytes.NewReader(data), "", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := s.Import(context.Background(), bytes.NewReader(archive), "", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if img.Layers[0].DiffID != whole.Layers[0].DiffID {
		t.Errorf("the members unpack to %s, want %s", img.Layers[0].DiffID, whole.Layers[0].DiffID)
	}
}
