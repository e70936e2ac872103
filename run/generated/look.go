package generated

import (
	"archive/tar"
	"io"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"mica/run/control"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/sandbox"
)

// The files that every start of a container generates lie in memory, over what its own tree has. Who copies them from
// outside gets what they begin with.

// Below lists the generated files at a path of the container, or below it, but for what a mount of the user's
// covers.
func Below(cfg *record.Config, p string) ([]sandbox.File, error) {
	p = path.Clean("/" + p)
	if cfg.Step == record.StepFiles { // it never starts
		return nil, nil
	}
	if !mounted.AtOrBelow("/etc", p) && !mounted.AtOrBelow(p, "/etc") {
		return nil, nil
	}
	all, err := Files(cfg)
	if err != nil {
		return nil, err
	}
	var list []sandbox.File
	for _, f := range all {
		if mounted.AtOrBelow(f.Target, p) && mounted.Of(cfg, f.Target) == nil {
			list = append(list, f)
		}
	}
	return list, nil
}

// At is the generated file at a path, nil if there is none.
func At(cfg *record.Config, p string) (*sandbox.File, error) {
	list, err := Below(cfg, p)
	if err != nil || len(list) != 1 || list[0].Target != path.Clean("/"+p) {
		return nil, err
	}
	return &list[0], nil
}

const generatedMode = 0o644

// Stat describes a generated file.
func Stat(c *record.Container, f *sandbox.File) *control.PathStat {
	return &control.PathStat{Name: path.Base(f.Target), Size: int64(len(f.Content)), Mode: unix.S_IFREG | generatedMode, Mtime: generatedTime(c)}
}

func generatedTime(c *record.Container) time.Time {
	if c.State.StartedAt.IsZero() {
		return c.Config.Created
	}
	return c.State.StartedAt
}

// Pack writes an archive of one generated file, called name.
func Pack(c *record.Container, f *sandbox.File, name string, w io.Writer) error {
	out := tar.NewWriter(w)
	head := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(f.Content)), Mode: generatedMode, ModTime: generatedTime(c), Format: tar.FormatPAX,
	}
	if err := out.WriteHeader(head); err != nil {
		return err
	}
	if _, err := out.Write(f.Content); err != nil {
		return err
	}
	return out.Close()
}
