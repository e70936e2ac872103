package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
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
	c.Flags().StringVar(&platform, "platform", "", "operating system and architecture, such as linux/arm64 (default this machine's)")
	c.RunE = func(c *cobra.Command, args []string) error {
		ref := ""
		if len(args) == 2 {
			ref = args[1]
		}
		if platform != "" {
			if err := parsePlatform(platform, &opt); err != nil {
				return err
			}
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
	}
	return c
}

func importFrom(ctx context.Context, s *layerstore.Store, source, ref string, opt layerstore.ImportOptions) (*layerstore.Image, error) {
	if source == "-" {
		if term.IsTerminal(0) {
			return nil, errors.New("standard input is a terminal: pipe an archive into it, or name a file")
		}
		return s.Import(ctx, progress(os.Stdin, -1, "importing"), ref, opt)
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
	return s.Import(ctx, progress(f, st.Size(), "importing"), ref, opt)
}

// parsePlatform reads OS/ARCH[/VARIANT].
func parsePlatform(p string, opt *layerstore.ImportOptions) error {
	var parts [3]string
	n := 0
	for part := range splitSlash(p) {
		if n == len(parts) || part == "" {
			return fmt.Errorf("platform %q: want OS/ARCH[/VARIANT]", p)
		}
		parts[n] = part
		n++
	}
	if n < 2 {
		return fmt.Errorf("platform %q: want OS/ARCH[/VARIANT]", p)
	}
	opt.OS, opt.Architecture, opt.Variant = parts[0], parts[1], parts[2]
	return nil
}

// progress shows how far r has been read, where standard error is a terminal.
func progress(r io.Reader, size int64, what string) io.Reader {
	if !term.IsTerminal(2) {
		return r
	}
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100e6))
	return &progressReader{r: r, bar: bar}
}

type progressReader struct {
	r   io.Reader
	bar *progressbar.ProgressBar
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	_ = p.bar.Add(n) // what cannot be drawn is not missed
	if err != nil {
		_ = p.bar.Finish()
	}
	return n, err
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
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := a.store()
		if err != nil {
			return err
		}
		var images []*layerstore.Image
		if input == "" || input == "-" {
			if term.IsTerminal(0) {
				return errors.New("standard input is a terminal: pipe an archive into it, or name one with -i")
			}
			r := io.Reader(os.Stdin)
			if !quiet {
				r = progress(r, -1, "loading")
			}
			images, err = s.Load(c.Context(), r, opt)
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
	}
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
	c.Flags().StringVar(&kind, "format", "oci-archive", "oci-archive or docker-archive")
	c.RunE = func(c *cobra.Command, args []string) error {
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
	}
	return c
}
