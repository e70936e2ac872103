package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"mica/layerstore"
	"mica/run/archive"
)

// add carries ADD out: COPY that also fetches URLs, and unpacks archives.
func (st *stage) add(ctx context.Context, cmd *instructions.AddCommand) error {
	items := inlineFiles(cmd.SourceContents)
	for _, p := range cmd.SourcePaths {
		found, err := st.addition(ctx, cmd, p)
		if err != nil {
			return err
		}
		items = append(items, found...)
	}
	flags := flagText("checksum", cmd.Checksum) + flagText("chown", cmd.Chown) + flagText("chmod", cmd.Chmod)
	return st.put(ctx, &copyStep{
		name: "ADD", items: items, dest: cmd.DestPath, look: look{cmd.Chown, cmd.Chmod, cmd.ExcludePatterns},
		text: "ADD " + flags + sourcesText(&cmd.SourcesAndDest), shown: cmd.String(),
	})
}

// addition is what one source of ADD stands for.
func (st *stage) addition(ctx context.Context, cmd *instructions.AddCommand, p string) ([]item, error) {
	if isGit(p) {
		if cmd.Checksum != "" {
			return nil, errors.New("--checksum is for files: name the commit after # in the address")
		}
		dir, err := cloneGit(ctx, p, st.b.scratch, gitAccess{ssh: st.b.opt.SSH["default"]}, cmd.KeepGitDir != nil && *cmd.KeepGitDir)
		if err != nil {
			return nil, err
		}
		d, err := OpenDir(dir)
		if err != nil {
			return nil, err
		}
		st.b.opened = append(st.b.opened, d)
		return match(ctx, d, ".", false)
	}
	if isURL(p) {
		f, err := fetch(ctx, p, st.b.scratch)
		if err == nil && cmd.Checksum != "" {
			err = f.verify(cmd.Checksum)
		}
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", p, err)
		}
		it := f.item()
		if cmd.Unpack != nil && *cmd.Unpack {
			return []item{unpacked(it)}, nil
		}
		return []item{it}, nil
	}
	if cmd.Checksum != "" {
		return nil, fmt.Errorf("--checksum is for URLs: %s is a file of the context", p)
	}
	src, err := st.source(ctx, "")
	if err != nil {
		return nil, err
	}
	items, err := match(ctx, src, p, false)
	if err != nil || cmd.Unpack != nil && !*cmd.Unpack {
		return items, err
	}
	for i := range items {
		if is, err := items[i].isArchive(ctx); err != nil {
			return nil, err
		} else if is {
			items[i] = unpacked(items[i])
		}
	}
	return items, nil
}

func isURL(p string) bool { return strings.HasPrefix(p, "http://") || strings.HasPrefix(p, "https://") }

// errEnough ends a look at the beginning of something.
var errEnough = errors.New("enough is known")

// isArchive tells whether an item is a file that can be unpacked.
func (it *item) isArchive(ctx context.Context) (is bool, err error) {
	err = it.pack(ctx, func(h *tar.Header, content io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return errEnough
		}
		plain, stop, err := layerstore.Decompress(content)
		if err != nil {
			return errEnough
		}
		defer stop()
		_, err = tar.NewReader(plain).Next()
		is = err == nil
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return is, err
}

// unpacked is the content of an archive.
func unpacked(file item) item {
	return item{source: file.source, name: ".", isDir: true, archive: true, pack: func(ctx context.Context, fn entryFunc) error {
		return file.pack(ctx, func(_ *tar.Header, content io.Reader) error {
			plain, stop, err := layerstore.Decompress(content)
			if err != nil {
				return fmt.Errorf("unpack %s: %w", file.source, err)
			}
			defer stop()
			in := tar.NewReader(plain)
			for {
				h, err := in.Next()
				if err == io.EOF {
					_, err = io.Copy(io.Discard, content) // all of it was promised
					return err
				}
				if err != nil {
					return fmt.Errorf("unpack %s: %w", file.source, err)
				}
				if h.Name, err = archive.EntryPath(h.Name); err != nil {
					return fmt.Errorf("unpack %s: %w", file.source, err)
				}
				if h.Name == "." || h.Typeflag == tar.TypeXGlobalHeader {
					continue
				}
				switch h.Typeflag {
				case tar.TypeGNUSparse, tar.TypeCont:
					h.Typeflag = tar.TypeReg
				case tar.TypeLink:
					if h.Linkname, err = archive.EntryPath(h.Linkname); err != nil {
						return fmt.Errorf("unpack %s: %w", file.source, err)
					}
				}
				if err := fn(h, in); err != nil {
					return err
				}
			}
		})
	}}
}
