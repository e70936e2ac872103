package layerstore

import (
	"context"
	"errors"
	"io"
)

var errSkeleton = errors.New("layerstore: being written")

func (s *Store) Load(ctx context.Context, r io.Reader, opt LoadOptions) ([]*Image, error) {
	return nil, errSkeleton
}

func (s *Store) LoadPath(ctx context.Context, path string, opt LoadOptions) ([]*Image, error) {
	return nil, errSkeleton
}

func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, format SaveFormat) error {
	return errSkeleton
}

func (s *Store) Tag(src, dst string) error { return errSkeleton }

func (s *Store) Remove(ref string, opt RemoveOptions) ([]Removed, error) { return nil, errSkeleton }

func (s *Store) History(img *Image) ([]HistoryRow, error) { return nil, errSkeleton }

func (s *Store) Check(ctx context.Context, repair bool) (*Report, error) { return nil, errSkeleton }
