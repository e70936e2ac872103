package sys

import (
	"bytes"
	"os"
)

// sparseBlock is the unit in which zeros become holes.
const sparseBlock = 4 << 10

var zeroBlock [sparseBlock]byte

// WriteSparse writes b at off in a file that has nothing there, but for its blocks of zeros, which become holes. Whole blocks do
// where off is a multiple of the block size.
func WriteSparse(fd int, b []byte, off int64) error {
	start := 0 // of the data not written yet
	for i := 0; i < len(b); {
		end := min(i+sparseBlock, len(b))
		if b[i] != 0 || !bytes.Equal(b[i:end], zeroBlock[:end-i]) {
			i = end
			continue
		}
		if err := PwriteFull(fd, b[start:i], off+int64(start)); err != nil {
			return err
		}
		start, i = end, end
	}
	return PwriteFull(fd, b[start:], off+int64(start))
}

// SparseWriter writes to a new file, but leaves out what is zero.
type SparseWriter struct {
	File *os.File
	off  int64
}

func (w *SparseWriter) Write(p []byte) (int, error) {
	if err := WriteSparse(int(w.File.Fd()), p, w.off); err != nil {
		return 0, &os.PathError{Op: "write", Path: w.File.Name(), Err: err}
	}
	w.off += int64(len(p))
	return len(p), nil
}
