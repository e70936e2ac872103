package layerstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/sys"
)

// Check verifies the store: the digest of every blob, what every image refers
// to, and that nothing lies there unreferred to. With repair it removes what is
// wrong: broken blobs, the images that need them, and leftovers.
// Blobs are read without the store's lock, so others may use it meanwhile.
func (s *Store) Check(ctx context.Context, repair bool) (*Report, error) {
	t, err := s.begin("check")
	readOnly := errors.Is(err, unix.EROFS) && !repair
	switch {
	case readOnly:
		t = &session{s: s} // nothing is staged
	case err != nil:
		return nil, fmt.Errorf("check store: %w", err)
	default:
		defer t.end()
	}
	bad, err := s.badBlobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	var dead []*os.File
	lock := s.lockShared
	if !readOnly {
		lock = s.lockExclusive
		if dead, err = s.claimDead(s.lockExclusive); err != nil {
			return nil, fmt.Errorf("check store: %w", err)
		}
	}
	c := &checker{t: t, repair: repair, bad: bad}
	for _, f := range dead {
		err = errors.Join(err, c.leftover(f))
	}
	if err == nil {
		err = c.run(lock)
	}
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	return &c.report, nil
}

// badBlobs hashes every blob and gives what is wrong with some, by name.
func (s *Store) badBlobs(ctx context.Context) (map[string]string, error) {
	list, err := names(s.path("blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	bad := make(map[string]string)
	for _, name := range list {
		want := digest.NewDigestFromEncoded(digest.SHA256, name)
		if want.Validate() != nil {
			bad[name] = "the name is no digest"
			continue
		}
		got, err := fileDigest(ctx, s.path("blobs", "sha256", name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			bad[name] = err.Error()
		case got != want:
			bad[name] = "the content has digest " + got.String()
		}
	}
	return bad, nil
}

func fileDigest(ctx context.Context, path string) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, contextReader{ctx, f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, sum), nil
}

// checker looks for problems under the exclusive lock; the shared one in a store that cannot be written.
type checker struct {
	t      *session
	repair bool
	bad    map[string]string // blobs that are wrong, and why
	ix     *index
	report Report
}

// leftover reports the staging directory of a dead process.
func (c *checker) leftover(f *os.File) error {
	defer f.Close()
	c.report.Problems = append(c.report.Problems, Problem{
		Path: filepath.Join("tmp", filepath.Base(f.Name())), What: "left by a process that died", Repaired: c.repair,
	})
	if !c.repair {
		return nil
	}
	return sys.RemoveAll(f.Name())
}

func (c *checker) run(lock func() (func(), error)) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if c.ix, err = c.t.s.readIndex(); err != nil {
		return err
	}
	refs, err := c.images()
	if err != nil {
		return err
	}
	if err := c.blobs(refs); err != nil {
		return err
	}
	return c.layers(refs)
}

// problem notes what is wrong at a path; a repair moves the path away.
func (c *checker) problem(path, what string) error {
	if c.repair {
		if _, err := c.t.discard(c.t.s.path(path)); err != nil {
			return fmt.Errorf("repair %s: %w", path, err)
		}
	}
	c.report.Problems = append(c.report.Problems, Problem{Path: path, What: what, Repaired: c.repair})
	return nil
}

// images checks every image and collects what those that are whole need. In a
// check without repair, broken images still keep what can be told of them.
func (c *checker) images() (references, error) {
	refs := references{make(map[string]bool), make(map[string]bool)}
	broken := make(map[digest.Digest]bool)
	seen := make(map[digest.Digest]bool)
	for _, d := range c.ix.Manifests {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if err := c.image(d, refs); err != nil {
			broken[d.Digest] = true
			c.report.Problems = append(c.report.Problems, Problem{
				Path: ocispec.ImageIndexFile, What: imageError(d, err).Error(), Repaired: c.repair,
			})
			continue
		}
		c.report.Images++
	}
	if !c.repair || len(broken) == 0 {
		return refs, nil
	}
	for d := range broken {
		c.ix.remove(d)
	}
	if err := c.t.s.writeIndex(c.ix); err != nil {
		return refs, err
	}
	return c.t.s.references(c.ix)
}

// image checks one image and adds what it needs to refs, as far as it can be read.
func (c *checker) image(d ocispec.Descriptor, refs references) error {
	if err := validDigest(d.Digest); err != nil {
		return err
	}
	refs.add(d.Digest)
	m, err := c.t.s.manifest(c.ix, d.Digest)
	if err != nil {
		return err
	}
	refs.add(m.Config.Digest)
	for _, l := range m.Layers {
		refs.add(l.Digest)
	}
	cfg, err := c.t.s.config(m)
	if err != nil {
		return err
	}
	for _, name := range layerNames(cfg) {
		refs.layers[name] = true
	}
	for _, l := range m.Layers {
		st, err := os.Stat(c.t.s.blobPath(l.Digest))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("layer blob %s is missing", l.Digest)
		}
		if err != nil {
			return err
		}
		if st.Size() != l.Size {
			return fmt.Errorf("layer blob %s has %d bytes, not %d", l.Digest, st.Size(), l.Size)
		}
		if why, ok := c.bad[l.Digest.Encoded()]; ok {
			return fmt.Errorf("layer blob %s: %s", l.Digest, why)
		}
	}
	return nil
}

func (c *checker) blobs(refs references) error {
	list, err := names(c.t.s.path("blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, name := range list {
		c.report.Blobs++
		path := filepath.Join("blobs", "sha256", name)
		if why, ok := c.bad[name]; ok {
			err = c.problem(path, why)
		} else if !refs.blobs[name] {
			err = c.problem(path, "no image refers to it")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) layers(refs references) error {
	list, err := names(c.t.s.path("layers"))
	if err != nil {
		return err
	}
	for _, name := range list {
		path := filepath.Join("layers", name)
		layer := layerOf(name)
		if layer == name {
			c.report.Layers++
		}
		var what string
		switch {
		case !refs.layers[layer]:
			what = "no image refers to it"
		case strings.HasSuffix(name, infoSuffix):
			if _, err := c.t.s.readLayerInfo(layer); err != nil {
				what = err.Error()
			}
		case strings.HasSuffix(name, catalogSuffix):
			what = c.catalog(name)
		default:
			if st, err := os.Lstat(c.t.s.path(path)); err != nil || !st.IsDir() {
				what = "it is no directory"
			}
		}
		if what == "" {
			continue
		}
		if err := c.problem(path, what); err != nil {
			return err
		}
	}
	return nil
}

// catalog tells what is wrong with the catalog of a layer, "" if nothing is.
func (c *checker) catalog(name string) string {
	path := c.t.s.path("layers", name)
	dir := strings.TrimSuffix(path, catalogSuffix)
	if !exists(dir) {
		return "its layer is not there"
	}
	if err := cow.CheckCatalog(path, dir); err != nil {
		// Containers may run over it: to bring the image anew is the user's decision.
		c.report.Problems = append(c.report.Problems, Problem{Path: filepath.Join("layers", layerOf(name)),
			What: err.Error() + "; remove its images and bring them again"})
	}
	return ""
}
