package run

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mica/run/sandbox"
)

// helperFlag is the first argument of a process of this executable that works
// on the machine's files with the ids that containers use; see inUserNamespace.
const helperFlag = "--mica-helper"

// helper does such a process's work.
func helper(args []string) int {
	signal.Ignore(unix.SIGHUP)
	var err error
	switch {
	case len(args) == 2 && args[0] == "remove":
		err = os.RemoveAll(args[1])
	case len(args) == 2 && args[0] == "unpack":
		err = unpack(os.Stdin, args[1], true)
	default:
		err = errors.New("unknown request")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// inUserNamespace does a helper's work as root of a user namespace in which
// the ids of containers exist. in may be nil.
func inUserNamespace(ids sandbox.IDMap, in io.Reader, args ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own executable: %w", err)
	}
	var stdin *os.File
	if in != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		defer r.Close()
		stdin = r
		go func() {
			_, _ = io.Copy(w, in)
			w.Close()
		}()
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer errRead.Close()
	box, err := sandbox.Start(context.Background(), &sandbox.Config{
		IDs: ids, Root: sandbox.Root{Dir: "/"}, MaskedPaths: []string{}, ReadOnlyPaths: []string{},
		Seccomp: sandbox.Seccomp{Mode: sandbox.SeccompUnconfined},
		Process: sandbox.Spec{Args: append([]string{exe, helperFlag}, args...), Stdin: stdin, Stderr: errWrite},
	})
	errWrite.Close()
	if err != nil {
		return err
	}
	words, _ := io.ReadAll(io.LimitReader(errRead, 4096))
	status, err := box.Wait()
	if err != nil {
		return err
	}
	if status.Code != 0 {
		return fmt.Errorf("%s", bytes.TrimSpace(words))
	}
	return nil
}

// unpack unpacks a tar stream into an existing directory, with the owners that
// it names if owners is set.
func unpack(r io.Reader, dir string, owners bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := unpackEntry(root, h, in, owners); err != nil {
			return fmt.Errorf("write %s: %w", h.Name, err)
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, content io.Reader, owners bool) error {
	chown := func(name string) error {
		if !owners {
			return nil
		}
		return root.Lchown(name, h.Uid, h.Gid)
	}
	name := filepath.Clean(strings.TrimSuffix(h.Name, "/"))
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o700); err != nil {
			return err
		}
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return chown(name)
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), name)
	default:
		return nil // devices, FIFOs and sockets have no place in a volume
	}
	if err := chown(name); err != nil {
		return err
	}
	if err := root.Chmod(name, mode); err != nil {
		return err
	}
	return root.Chtimes(name, h.ModTime, h.ModTime)
}
