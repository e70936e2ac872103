package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/term"
)

// writeOutput writes to standard output or to a file. A regular file, or one behind a symlink, is there only when all
// of it could be written; a device, a pipe and the like is written as it is. Errors name what the user typed.
func writeOutput(path string, write func(io.Writer) error) error {
	if path == "" || path == "-" {
		return writeOpen(os.Stdout, "standard output", write)
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replaceFile(path, 0o644, write)
	case err != nil:
		return err
	case isStdout(st):
		return writeOpen(os.Stdout, path, write)
	case st.Mode().IsRegular():
		return replaceFile(path, st.Mode().Perm(), write)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	err = writeOpen(f, path, write)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// isStdout tells whether a file is what standard output leads to, as /dev/stdout is: it goes on where that stands.
func isStdout(st fs.FileInfo) bool {
	out, err := os.Stdout.Stat()
	return err == nil && os.SameFile(st, out)
}

func writeOpen(f *os.File, name string, write func(io.Writer) error) error {
	if term.IsTerminal(int(f.Fd())) {
		return fmt.Errorf("%s is a terminal: redirect it, or name a file with -o", name)
	}
	return write(namedWriter{f, name})
}

// replaceFile writes a new file beside the one that path leads to, and puts it in its place.
func replaceFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	target, err := linkTarget(path)
	if err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d.tmp", target, os.Getpid())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return underName("create", path, err)
	}
	err = write(namedWriter{f, path})
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = underName("write", path, closeErr)
	}
	if err == nil {
		if err = os.Rename(tmp, target); err != nil {
			err = underName("write", path, err)
		}
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// linkTarget follows the symlinks at the end of a path, also one that leads to no file yet.
func linkTarget(path string) (string, error) {
	target := path
	for range 40 { // as many as the kernel follows
		to, err := os.Readlink(target)
		if err != nil {
			return target, nil // no symlink: whatever is wrong shows when it is written
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(target), to)
		}
		target = to
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// namedWriter writes to a file and names it in errors as the user did.
type namedWriter struct {
	f    *os.File
	name string
}

func (w namedWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = underName("write", w.name, err)
	}
	return n, err
}

// underName is an error of the system about a file, by the name that the user knows it by.
func underName(op, path string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return &fs.PathError{Op: op, Path: path, Err: errno}
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}
