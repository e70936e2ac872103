package cow

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/whiteout"
)

// WriteCatalog makes the catalog of the layer in dir, which keeps owners in attributes and which nobody changes any more, as a
// new file at path. Where it cannot, there is none; a union does without.
func WriteCatalog(path, dir string) error {
	content, err := catalogContent(dir)
	if err != nil {
		return fmt.Errorf("make catalog of %s: %w", dir, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".catalog-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path) // others may have the old one mapped
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// KeepCatalogs gives layers that nobody changes, and in which nothing is mounted, their catalogs in the directory dir, and makes
// those that are not there, as far as they can be made.
func KeepCatalogs(dir string, lowers []Lower) error {
	for i, l := range lowers {
		var st unix.Statx_t
		if err := sys.Stat(unix.AT_FDCWD, l.Dir, &st); err != nil {
			return fmt.Errorf("open layer %s: %w", l.Dir, err)
		}
		path := filepath.Join(dir, fmt.Sprintf("%x-%x.catalog", sys.Dev(&st), st.Ino))
		if hasCatalog(path, &st) || WriteCatalog(path, l.Dir) == nil {
			lowers[i].Catalog = path
		}
	}
	return nil
}

func hasCatalog(path string, st *unix.Statx_t) bool {
	fd, err := sys.Open(unix.AT_FDCWD, path, unix.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer sys.Close(fd)
	_, fits := catalogFits(fd, st)
	return fits
}

// CheckCatalog tells whether the catalog at path says what the directories of the layer in dir say. One that no union would
// use, as that of a copied layer, is no error.
func CheckCatalog(path, dir string) error {
	var st unix.Statx_t
	if err := sys.Stat(unix.AT_FDCWD, dir, &st); err != nil {
		return err
	}
	used := openCatalog(path, &st)
	if used == nil {
		return nil
	}
	defer used.close()
	want, err := catalogContent(dir)
	if err != nil {
		return fmt.Errorf("make catalog of %s: %w", dir, err)
	}
	same := false
	used.guard(func() { same = bytes.Equal(used.data, want) })
	if !same {
		return errors.New("the layer was changed since it was unpacked: its directories are not what its catalog says")
	}
	return nil
}

func catalogContent(dir string) ([]byte, error) {
	fd, err := sys.OpenDir(unix.AT_FDCWD, dir)
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	var st unix.Statx_t
	if err := sys.Stat(fd, "", &st); err != nil {
		return nil, err
	}
	head, known := catalogHeadOf(&st)
	if !known {
		return nil, unix.EOPNOTSUPP
	}
	w := catalogWriter{out: append(head, make([]byte, catalogHead-len(head))...)}
	root, err := w.dir(fd, 0)
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(w.out[headRoot:], root)
	binary.LittleEndian.PutUint64(w.out[headSize:], uint64(len(w.out)))
	binary.LittleEndian.PutUint32(w.out[headSum:], crc32.Checksum(w.out[:headSum], checksums))
	return w.out, nil
}

// catalogWriter makes a catalog in memory.
type catalogWriter struct {
	out []byte
}

// catalogDir collects what one directory says.
type catalogDir struct {
	names []byte
	subs  []catalogSub
}

// catalogSub is a subdirectory: its name, the place of that in names, and the place of its block.
type catalogSub struct {
	name      string
	at, block uint32
}

func (d *catalogDir) has(name string, typ uint8, ino uint64) {
	if typ == unix.DT_DIR {
		d.subs = append(d.subs, catalogSub{name: name, at: uint32(len(d.names))})
	}
	d.put(typ, ino, name)
}

func (d *catalogDir) deletes(name string, style whiteout.Style) {
	d.put(kindDeleted|uint8(style), 0, name)
}

func (d *catalogDir) put(kind uint8, ino uint64, name string) {
	d.names = append(d.names, kind)
	d.names = binary.AppendUvarint(d.names, ino)
	d.names = append(d.names, uint8(len(name)))
	d.names = append(d.names, name...)
}

// dir appends the blocks of a directory, whose path has the checksum path, and of all below it, and gives the place of its own.
func (w *catalogWriter) dir(fd int, path uint32) (block uint32, err error) {
	var (
		arena nameArena
		d     catalogDir
	)
	opaque, err := (&scanner{fd: fd, arena: &arena}).scan(&d)
	if err != nil {
		return 0, err
	}
	for i := range d.subs {
		if d.subs[i].block, err = w.sub(fd, d.subs[i].name, pathSum(path, d.subs[i].name)); err != nil {
			return 0, err
		}
	}
	if uint64(len(w.out))+uint64(len(d.names)) > 1<<31 {
		return 0, unix.EFBIG
	}
	slices.SortFunc(d.subs, func(a, b catalogSub) int { return cmp.Compare(a.name, b.name) })
	start := len(w.out)
	w.out = append(w.out, make([]byte, 4)...) // the checksum, once the rest is there
	names := uint32(blockHead - blockRest + 8*len(d.subs))
	w.put(names+uint32(len(d.names)), flag(opaque, blockOpaque), uint32(len(d.subs)), path)
	for _, s := range d.subs {
		w.put(names+s.at, s.block)
	}
	w.out = append(w.out, d.names...)
	binary.LittleEndian.PutUint32(w.out[start:], crc32.Checksum(w.out[start+blockRest:], checksums))
	return uint32(start), nil
}

func (w *catalogWriter) sub(dirfd int, name string, path uint32) (uint32, error) {
	fd, err := sys.OpenDir(dirfd, name)
	if err != nil {
		return 0, err
	}
	defer sys.Close(fd)
	return w.dir(fd, path)
}

func (w *catalogWriter) put(values ...uint32) {
	for _, v := range values {
		w.out = binary.LittleEndian.AppendUint32(w.out, v)
	}
}

func flag(set bool, bit uint32) uint32 {
	if set {
		return bit
	}
	return 0
}
