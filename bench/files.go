package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// FilesCommand is the hidden subcommand that makes or sums a tree inside a container, where there may be no program
// but this one.
const FilesCommand = "__files"

// Files does `make COUNT DIR` or `sum DIR`; the sum goes to w.
func Files(w io.Writer, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "make":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return fmt.Errorf("parse number of files: %w", err)
		}
		entries := make([]entry, 0, n)
		for i := range n {
			entries = append(entries, entry{path: fmt.Sprintf("d%03d/f%05d", i/100, i), mode: 0o644, size: 512})
		}
		return writeTree(filepath.Clean(args[2]), -1, entries)
	case len(args) == 2 && args[0] == "sum":
		sum, err := treeSum(filepath.Clean(args[1]))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, sum)
		return err
	}
	return errors.New("make or sum files: want make COUNT DIR, or sum DIR")
}

// checkMica says early, in one line, that the binary under test cannot be run.
func checkMica(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("find the binary under test: %w", err)
	}
	if st.Mode()&0o111 == 0 {
		return fmt.Errorf("find the binary under test: %s is not executable", path)
	}
	return nil
}
