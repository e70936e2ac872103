package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/layerstore"
)

func (a *app) newImportCommand() *cobra.Command {
	var opt layerstore.ImportOptions
	var platform string
	c := &cobra.Command{
		Use:   "import [flags] FILE|DIR|- [NAME[:TAG]]",
		Short: "Make an image of a root filesystem",
		Long: `Make an image of one layer of a root filesystem: a tar archive, plain or compressed with gzip, zstd, xz or bzip2,
a directory, of which mica's own store is left out if it lies there, or an archive on standard input. Prints the image's ID.`,
		Example: lines("mica import debian.tar.zst debian:bookworm", "mmdebstrap bookworm - | mica import - debian",
			"mica import -c 'CMD [\"/bin/bash\"]' -m 'from a chroot' /srv/chroot base"),
		Args: cobra.RangeArgs(1, 2),
	}
	c.Flags().StringArrayVarP(&opt.Changes, "change", "c", nil, "apply an instruction of a Dockerfile, such as 'CMD bash'")
	c.Flags().StringVarP(&opt.Message, "message", "m", "", "comment of the history entry")
	c.Flags().BoolP("quiet", "q", false, "accepted; nothing but the image's ID is printed")
	c.Flags().StringVar(&platform, "platform", "", "operating system and architecture, such as linux/arm64 (default this machine's)")
	c.RunE = tidily(func(c *cobra.Command, args []string) error {
		ref := ""
		if len(args) == 2 {
			ref = args[1]
		}
		if platform != "" {
			p, err := layerstore.ParsePlatform(platform)
			if err != nil {
				return err
			}
			opt.OS, opt.Architecture, opt.Variant = p.OS, p.Architecture, p.Variant
		}
		s, err := a.store()
		if err != nil {
			return err
		}
		opt.Source = args[0]
		img, err := importFrom(c.Context(), s, args[0], ref, opt)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, img.ID)
		return nil
	})
	return c
}

func importFrom(ctx context.Context, s *layerstore.Store, source, ref string, opt layerstore.ImportOptions) (*layerstore.Image, error) {
	if source == "-" {
		if term.IsTerminal(0) {
			return nil, errors.New("standard input is a terminal: pipe an archive into it, or name a file")
		}
		return importBytes(ctx, s, os.Stdin, 0, ref, opt)
	}
	st, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return s.ImportDir(ctx, source, ref, opt)
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return importBytes(ctx, s, f, st.Size(), ref, opt)
}

// importBytes imports an archive; size is 0 where nobody knows it.
func importBytes(ctx context.Context, s *layerstore.Store, r io.Reader, size int64, ref string, opt layerstore.ImportOptions) (*layerstore.Image, error) {
	b := newBars(true)
	defer b.stop()
	return s.Import(ctx, b.reader(r, size, "importing"), ref, opt)
}

func (a *app) newLoadCommand() *cobra.Command {
	var input string
	var quiet bool
	var opt layerstore.LoadOptions
	c := &cobra.Command{
		Use:     "load [flags]",
		Short:   "Load images from an archive",
		Long:    "Load all images of an archive made by docker save or mica save, of an OCI archive, or of a directory that is an OCI image layout.",
		Example: lines("mica load -i images.tar", "docker save debian | mica load", "mica load -i ./oci-layout --name app:1"),
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVarP(&input, "input", "i", "", "file or directory (default standard input)")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	c.Flags().StringVar(&opt.Ref, "name", "", "name for an image that has none in the archive")
	c.RunE = tidily(func(c *cobra.Command, _ []string) error {
		s, err := a.store()
		if err != nil {
			return err
		}
		var images []*layerstore.Image
		if input == "" || input == "-" {
			if term.IsTerminal(0) {
				return errors.New("standard input is a terminal: pipe an archive into it, or name one with -i")
			}
			b := newBars(!quiet)
			images, err = s.Load(c.Context(), b.reader(os.Stdin, 0, "loading"), opt)
			b.stop()
		} else {
			images, err = s.LoadPath(c.Context(), input, opt)
		}
		if err != nil {
			return err
		}
		for _, img := range images {
			if len(img.Names) == 0 {
				fmt.Fprintln(stdout, "Loaded image ID:", img.ID)
			}
			for _, name := range img.Names {
				fmt.Fprintln(stdout, "Loaded image:", name)
			}
		}
		return nil
	})
	return c
}

func (a *app) newSaveCommand() *cobra.Command {
	var output, kind string
	c := &cobra.Command{
		Use:               "save [flags] IMAGE...",
		Short:             "Write images as one archive",
		Example:           lines("mica save -o app.tar app:1", "mica save --format docker-archive app | docker load"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages(0),
	}
	c.Flags().StringVarP(&output, "output", "o", "", "file to write (default standard output)")
	c.Flags().BoolP("quiet", "q", false, "accepted; nothing is said")
	c.Flags().BoolP("multi-image-archive", "m", false, "accepted; every archive may hold several images")
	c.Flags().StringVar(&kind, "format", "oci-archive", "oci-archive or docker-archive")
	c.RunE = tidily(func(c *cobra.Command, args []string) error {
		formats := map[string]layerstore.SaveFormat{"oci-archive": layerstore.OCIArchive, "docker-archive": layerstore.DockerArchive}
		f, ok := formats[kind]
		if !ok {
			return fmt.Errorf("format %q: want oci-archive or docker-archive", kind)
		}
		s, err := a.store()
		if err != nil {
			return err
		}
		return writeOutput(output, func(w io.Writer) error { return s.Save(c.Context(), w, args, f) })
	})
	return c
}
