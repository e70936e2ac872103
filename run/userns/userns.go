// Package userns works on files of the host as containers see their owners: by processes of this executable that are root of a user
// namespace with the ids of containers, where the calling user may do to subordinate owners what root may.
package userns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"mica/run/archive"
	"mica/run/sandbox"
)

// Flag is the first argument of a process of this executable that works
// on the machine's files with the ids that containers use; see Run.
const Flag = "--mica-helper"

// Run does a helper's work, which args name, as root of a user namespace in which
// the ids of containers exist. in and out may be nil.
func Run(ids sandbox.IDMap, in io.Reader, out io.Writer, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own executable: %w", err)
	}
	var stdin *os.File
	var failed <-chan error
	if in != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		defer r.Close()
		stdin, failed = r, feed(w, in)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer errRead.Close()
	var stdout *os.File
	copied := make(chan error, 1)
	if out != nil {
		r, w, err := os.Pipe()
		if err != nil {
			errWrite.Close()
			return fmt.Errorf("make a pipe: %w", err)
		}
		stdout = w
		go func() {
			_, err := io.Copy(out, r)
			r.Close() // so that the helper does not wait for a reader that is gone
			copied <- err
		}()
	} else {
		copied <- nil
	}
	box, err := sandbox.Start(context.Background(), &sandbox.Config{
		IDs: ids, Root: sandbox.Root{Dir: "/"}, MaskedPaths: []string{}, ReadOnlyPaths: []string{},
		Seccomp: sandbox.Seccomp{Mode: sandbox.SeccompUnconfined},
		Process: sandbox.Spec{Args: append([]string{exe, Flag}, args...), Stdin: stdin, Stdout: stdout, Stderr: errWrite},
	})
	errWrite.Close()
	if stdout != nil {
		stdout.Close()
	}
	if err != nil {
		return err
	}
	words, _ := io.ReadAll(io.LimitReader(errRead, 4096))
	status, err := box.Wait()
	if err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err // what the helper made of what it got says less
	default:
	}
	if status.Code != 0 {
		return errors.Join(<-copied, errors.New(string(bytes.TrimSpace(words))))
	}
	return <-copied
}

// feed copies from in to a pipe, which it closes. Where in fails, the error comes over the channel before the reader of the pipe
// sees its end, which looks like that of an archive where an entry ends.
func feed(w *os.File, in io.Reader) <-chan error {
	failed := make(chan error, 1)
	go func() {
		noted := &archive.NotedReader{Reader: in}
		_, _ = io.Copy(w, noted) // the reader may have enough
		if noted.Err != nil {
			failed <- noted.Err
		}
		w.Close()
	}()
	return failed
}

// RunDefault does a helper's work on a directory with the ids that containers use by default.
func RunDefault(op, dir string) error {
	ids, err := sandbox.ResolveIDs(sandbox.IDsAuto)
	if err != nil {
		return err
	}
	return Run(ids, nil, nil, op, dir)
}
