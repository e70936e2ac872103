package bench

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// copyUpWorkloads change a little of something large that lies in a lower layer. An operation is the whole change.
func copyUpWorkloads() []Workload {
	big := func(name, about string, pass func(*env) (int, error), undo func(*env) error) Workload {
		return Workload{Name: name, About: about, Fixture: "big", pass: pass, answer: bigAnswer, undo: undo}
	}
	all := []Workload{
		big("append-1", "append 1 byte to a big lower file", passAppend, func(e *env) error {
			return os.Truncate(e.path("big.bin"), e.t.Scale.BigBytes)
		}),
		big("rewrite-block", "write 4 KiB in the middle of a big lower file", passRewriteBlock, undoRewriteBlock),
		big("chmod-big", "chmod of a big lower file", func(e *env) (int, error) {
			return 1, os.Chmod(e.path("big.bin"), 0o600)
		}, func(e *env) error { return os.Chmod(e.path("big.bin"), 0o644) }),
		big("rename-big", "rename of a big lower file", func(e *env) (int, error) {
			return 1, unix.Rename(e.path("big.bin"), e.path("new.bin"))
		}, func(e *env) error { return unix.Rename(e.path("new.bin"), e.path("big.bin")) }),
		{Name: "rename-dir", About: "rename of a lower directory of many files, by mv where rename(2) says EXDEV", Fixture: "dir",
			Needs: []Tool{{"mv", "coreutils"}}, pass: passRenameDir, answer: renameDirAnswer,
			undo: func(e *env) error { return unix.Rename(e.path("moved"), e.path("full")) }},
	}
	for i := range all {
		all[i].Group, all[i].Mutates, all[i].Once, all[i].Quick = "copy-up", true, true, true
	}
	return all
}

func passAppend(e *env) (int, error) {
	fd, err := unix.Open(e.path("big.bin"), unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	_, err = unix.Write(fd, []byte{'!'})
	return 1, errors.Join(err, unix.Close(fd))
}

func passRewriteBlock(e *env) (int, error) {
	block := make([]byte, smallSize)
	return 1, putMiddle(e, block)
}

func undoRewriteBlock(e *env) error {
	// The middle lies at the begin of one of the blocks that the fixture was filled with.
	half := e.t.Scale.BigBytes / 2
	block := make([]byte, smallSize)
	fill(block, fmt.Sprintf("big.bin%d", half))
	return putMiddle(e, block)
}

func putMiddle(e *env, block []byte) error {
	fd, err := unix.Open(e.path("big.bin"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	_, err = unix.Pwrite(fd, block, e.t.Scale.BigBytes/2)
	return errors.Join(err, unix.Close(fd))
}

// bigAnswer looks at the metadata and at the first, middle and last bytes of the big file.
func bigAnswer(e *env) (string, error) {
	for _, name := range []string{"big.bin", "new.bin"} {
		f, err := os.Open(e.path(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look at big file: %w", err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return "", fmt.Errorf("look at big file: %w", err)
		}
		answer := fmt.Sprintf("%s %v %d bytes", name, st.Mode(), st.Size())
		for _, off := range []int64{0, e.t.Scale.BigBytes/2 - 4, st.Size() - 8} {
			var b [8]byte
			if _, err := f.ReadAt(b[:], off); err != nil {
				return "", fmt.Errorf("look at big file: %w", err)
			}
			answer += fmt.Sprintf(" %x", b)
		}
		return answer, nil
	}
	return "", errors.New("look at big file: it is gone")
}

func passRenameDir(e *env) (int, error) {
	err := unix.Rename(e.path("full"), e.path("moved"))
	if errors.Is(err, unix.EXDEV) {
		e.note = "EXDEV: copied by mv"
		err = pipe(e, nil, "mv", "full", "moved")
	}
	return 1, err
}

func renameDirAnswer(e *env) (string, error) {
	sum, err := treeSum(e.path("moved"))
	if err != nil {
		return "", err
	}
	top, err := listRoot(e)
	return top + "; " + sum, err
}
