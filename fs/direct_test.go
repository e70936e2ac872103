package fs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// TestReadersOfNewFiles lets several readers, by read(2) and by mapped pages,
// follow a file that another one makes and appends to. The maker writes past
// the page cache, the readers go through it: whatever was written before a
// reader looks must be there, and never zeros or what was there before.
func TestReadersOfNewFiles(t *testing.T) {
	m := mountUnion(t, cow.Config{Lowers: real(lowers(t, 1)...)})
	const (
		record  = 100 // bytes, so that most pages are written several times
		records = 4000
		readers = 3
	)
	path := filepath.Join(m.dir, "log")
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	must(t, err)
	defer w.Close()
	var written atomic.Int64
	errs := make(chan error, readers)
	for i := range readers {
		go func() { errs <- follow(path, record, records, i%2 == 1, &written) }()
	}
	for i := range records {
		if _, err := w.Write(bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(i+1)), record/4)); err != nil {
			t.Error(err)
			break
		}
		written.Add(1)
	}
	written.Store(records) // lets readers end after an error
	for range readers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// follow checks the newest record over and over until there are all.
func follow(path string, record, records int64, mapped bool, written *atomic.Int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var pages []byte
	if mapped {
		if pages, err = unix.Mmap(int(f.Fd()), 0, int(record*records), unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return err
		}
		defer unix.Munmap(pages)
	}
	buf := make([]byte, record)
	for {
		n := written.Load()
		if n > 0 {
			got := buf
			if mapped {
				got = pages[(n-1)*record : n*record]
			} else if _, err := f.ReadAt(buf, (n-1)*record); err != nil {
				return err
			}
			want := bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(n)), int(record/4))
			if !bytes.Equal(got, want) {
				return fmt.Errorf("record %d, mapped %v: it begins with % x", n, mapped, got[:8])
			}
		}
		if n == records {
			return nil
		}
	}
}
