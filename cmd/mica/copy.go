package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"mica/layerstore"
	"mica/run"
	"mica/run/record"
)

// place is one side of a copy: a path, in a container or on the host.
type place struct {
	container string // empty: the host
	path      string
}

// parsePlace reads CONTAINER:PATH, PATH or "-". A path with a slash before the
// colon is the host's.
func parsePlace(s string) place {
	if name, p, ok := strings.Cut(s, ":"); ok && name != "" && !strings.Contains(name, "/") && name != "." && name != ".." {
		return place{name, p}
	}
	return place{"", s}
}

func (a *app) newCopyCommand() *cobra.Command {
	var opt run.CopyOptions
	var quiet bool
	c := &cobra.Command{
		Use:   "cp [flags] CONTAINER:SRC DST|- | SRC|- CONTAINER:DST",
		Short: "Copy files between a container and the host",
		Long: `Copy files between a container, running or not, and the host. "-" is a tar stream on standard input or output.
A source directory that ends with "/." has its content copied. Files of the host belong to root in the container unless -a
keeps their owners; a tar stream's belong to whom it says. Volumes and host paths that are mounted in the container are copied with the rest; what is in memory (--tmpfs) is not, and nothing is copied there;
/etc/hosts, /etc/hostname and /etc/resolv.conf are copied as mica has written them at the start.`,
		Example: lines("mica cp app.js web:/srv/", "mica cp web:/etc/nginx ./nginx", "mica cp web:/var/log - | tar t"),
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().BoolVarP(&opt.Archive, "archive", "a", false, "keep the owners of files, which a tar stream always does")
	c.Flags().BoolVarP(&opt.FollowLink, "follow-link", "L", false, "follow symlinks in the source")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "accepted; nothing is printed")
	c.RunE = tidily(func(c *cobra.Command, args []string) error {
		src, dst := parsePlace(args[0]), parsePlace(args[1])
		if (src.container == "") == (dst.container == "") {
			return errors.New("cp copies between a container and the host: give exactly one side as CONTAINER:PATH")
		}
		if src.path == "" || dst.path == "" {
			return errors.New("cp: the source or the destination is empty")
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		find := func(name string) (*record.Container, error) { return e.Containers.Find(name) }
		if src.container != "" {
			ct, err := find(src.container)
			if err != nil {
				return err
			}
			if dst.path == "-" {
				name := path.Base(path.Clean("/" + src.path))
				if name == "/" {
					name = "" // its content at the top
				}
				return e.CopyOut(c.Context(), ct, src.path, name, opt.FollowLink, stdout)
			}
			return e.CopyToHost(c.Context(), ct, src.path, dst.path, opt)
		}
		ct, err := find(dst.container)
		if err != nil {
			return err
		}
		if src.path == "-" {
			st, err := e.Stat(c.Context(), ct, dst.path, true)
			if err != nil {
				return err
			}
			if st == nil || !st.IsDir() {
				return fmt.Errorf("%s is not a directory in the container: a tar stream needs one", dst.path)
			}
			archive, free, err := layerstore.Decompress(os.Stdin)
			if err != nil {
				return err
			}
			defer free()
			return e.CopyIn(c.Context(), ct, dst.path, true, archive) // an archive says whose its files are to be
		}
		return e.CopyFromHost(c.Context(), ct, src.path, dst.path, opt)
	})
	return c
}

func (a *app) newExportCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:               "export [flags] CONTAINER",
		Short:             "Write a container's whole filesystem as a tar archive",
		Example:           lines("mica export -o root.tar web", "mica export web | mica import - flat"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContainers(anyState, 1),
	}
	c.Flags().StringVarP(&output, "output", "o", "", "file to write (default standard output)")
	c.RunE = tidily(func(c *cobra.Command, args []string) error {
		e, ct, err := a.find(args[0])
		if err != nil {
			return err
		}
		if ct.Config.HostBase {
			fmt.Fprintln(os.Stderr, "what you may not read of this machine's root is left out")
		}
		return writeOutput(output, func(w io.Writer) error { return e.Export(c.Context(), ct, w) })
	})
	return c
}
