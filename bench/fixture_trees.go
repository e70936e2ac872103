package bench

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// sourceEntries lists a made-up source tree: few large directories, many small files.
func sourceEntries(files, dirs int) []entry {
	g := &rootMaker{rng: rand.New(rand.NewPCG(7, 7)), seen: map[string]bool{}}
	for i := range dirs {
		g.files(fmt.Sprintf("tree/area%d/part%d", i%20, i), "unit", ".c", files/dirs, 6000)
	}
	return g.entries
}

// buildSource makes a source tree as a layer, and the same tree as source.tar.
func buildSource(dir string, t *task) (int, error) {
	entries := sourceEntries(t.Scale.SourceFiles, t.Scale.SourceDirs)
	layer := filepath.Join(dir, "l0")
	if err := writeTree(layer, -1, entries); err != nil {
		return 0, err
	}
	return 1, writeTar(filepath.Join(dir, "source.tar"), layer, entries)
}

// writeTar archives the entries of a tree.
func writeTar(name, root string, entries []entry) error {
	out, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	buffered := bufio.NewWriterSize(out, 1<<20)
	tw := tar.NewWriter(buffered)
	err = func() error {
		for _, e := range entries {
			if err := addToTar(tw, root, e); err != nil {
				return err
			}
		}
		return errors.Join(tw.Close(), buffered.Flush())
	}()
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func addToTar(tw *tar.Writer, root string, e entry) error {
	h := &tar.Header{Name: e.path, Mode: int64(e.mode.Perm()), ModTime: treeTime(), Format: tar.FormatPAX}
	switch {
	case e.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, e.path+"/"
	case e.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
	case e.linkTo != "":
		h.Typeflag, h.Linkname = tar.TypeLink, e.linkTo
	default:
		st, err := os.Stat(filepath.Join(root, e.path))
		if err != nil {
			return err
		}
		h.Typeflag, h.Size = tar.TypeReg, st.Size()
	}
	if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	in, err := os.Open(filepath.Join(root, e.path))
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(tw, in)
	return err
}

// buildBig makes one layer with one big file, big.bin.
func buildBig(dir string, t *task) (int, error) {
	return 1, writeBig(filepath.Join(dir, "l0"), "big.bin", t.Scale.BigBytes)
}

// buildFio makes one layer with the file that the read and rewrite jobs work on.
func buildFio(dir string, t *task) (int, error) {
	return 1, writeBig(filepath.Join(dir, "l0"), "data.bin", t.Scale.FioBytes)
}

func writeBig(dir, name string, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make big file: %w", err)
	}
	out, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("make big file: %w", err)
	}
	block := make([]byte, 1<<20)
	for off := int64(0); off < size && err == nil; off += int64(len(block)) {
		fill(block, name+strconv.FormatInt(off, 10))
		_, err = out.Write(block[:min(int64(len(block)), size-off)])
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("make big file: %w", err)
	}
	return nil
}

// buildDir makes one layer with one directory of many small files.
func buildDir(dir string, t *task) (int, error) {
	entries := make([]entry, 0, t.Scale.DirFiles)
	for i := range t.Scale.DirFiles {
		entries = append(entries, entry{path: fmt.Sprintf("full/file%05d", i), mode: 0o644, size: 100})
	}
	return 1, writeTree(filepath.Join(dir, "l0"), -1, entries)
}

// buildMany makes one layer with a great many empty files, a thousand to a directory.
func buildMany(dir string, t *task) (int, error) {
	for i := 0; i < t.Scale.ManyFiles; i += 1000 {
		sub := filepath.Join(dir, "l0", fmt.Sprintf("dir%04d", i/1000))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return 0, fmt.Errorf("make many files: %w", err)
		}
		for j := range min(1000, t.Scale.ManyFiles-i) {
			f, err := os.Create(filepath.Join(sub, fmt.Sprintf("file%03d", j)))
			if err != nil {
				return 0, fmt.Errorf("make many files: %w", err)
			}
			if err := f.Close(); err != nil {
				return 0, fmt.Errorf("make many files: %w", err)
			}
		}
	}
	return 1, nil
}

// layerDirs is how many directories the files of the layer fixtures are in.
const layerDirs = 50

// buildLayers makes the same tree spread over any number of layers: every directory has files of most layers.
func buildLayers(dir string, layers, files int) error {
	entries := make([]entry, 0, files+layerDirs)
	for i := range layerDirs {
		entries = append(entries, entry{path: fmt.Sprintf("d%02d", i), mode: fs.ModeDir | 0o755, layer: layers - 1})
	}
	for i := range files {
		entries = append(entries, entry{path: fmt.Sprintf("d%02d/f%05d", i%layerDirs, i), mode: 0o644, size: 64, layer: i % layers})
	}
	byLayer := make([][]entry, layers)
	for _, e := range entries {
		byLayer[e.layer] = append(byLayer[e.layer], e)
	}
	for i, of := range byLayer {
		if err := writeTree(filepath.Join(dir, "l"+strconv.Itoa(i)), -1, of); err != nil {
			return err
		}
	}
	if layers > 1 {
		if err := writeTree(filepath.Join(dir, "flat"), -1, entries); err != nil {
			return err
		}
	}
	return writeEntryLists(dir, entries)
}
