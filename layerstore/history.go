package layerstore

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// missingID stands for the ID of a step whose image this store does not have.
const missingID = "<missing>"

// History lists the steps of an image, newest first, as `docker history`
// computes them: the top step is the image, the next one that which it
// was committed from, and so on as far as the store has them.
func (s *Store) History(img *Image) ([]HistoryRow, error) {
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	rows := make([]HistoryRow, len(img.Config.History))
	layer := 0
	for i, h := range img.Config.History {
		row := &rows[len(rows)-1-i]
		*row = HistoryRow{ID: missingID, CreatedBy: h.CreatedBy, Comment: h.Comment, Author: h.Author}
		if h.Created != nil {
			row.Created = *h.Created
		}
		if h.EmptyLayer {
			continue
		}
		if layer < len(img.Layers) { // the history of an image from elsewhere need not agree with it
			row.Size = img.Layers[layer].Size
		}
		layer++
	}
	for id := img.ID; id != ""; {
		entry, ok := s.entryByID(ix, id)
		if !ok {
			break
		}
		at, err := s.image(ix, entry)
		if err != nil {
			break // what is wrong with another image is told by the check
		}
		top := len(rows) - len(at.Config.History) // one commit may have made several steps
		if top < 0 || top >= len(rows) || rows[top].ID != missingID {
			break
		}
		rows[top].ID = id
		rows[top].Names = at.Names
		id = entry.Annotations[parentAnnotation]
	}
	return rows, nil
}

// entryByID finds an entry of the image with this ID; one that knows its parent
// goes before others.
func (s *Store) entryByID(ix *index, id string) (found ocispec.Descriptor, ok bool) {
	for _, d := range ix.Manifests {
		m, err := s.manifest(ix, d.Digest)
		if err != nil || m.Config.Digest.String() != id {
			continue
		}
		if !ok || found.Annotations[parentAnnotation] == "" {
			found, ok = d, true
		}
	}
	return found, ok
}
