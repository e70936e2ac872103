package build

import (
	"archive/tar"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"mica/layerstore"
	"mica/run"
	"mica/run/record"
)

// item is one thing that COPY or ADD puts into the destination.
type item struct {
	source  string            // what it is called where it comes from
	name    string            // in the destination; ".": the destination itself, or, of a directory, its content goes there
	isDir   bool              // or an archive
	archive bool              // it is unpacked
	implied []string          // directories that an archive has something in and does not list itself; once its content is known
	above   map[string]uint32 // modes of directories on the way to it, by their names in the destination; nil: the usual ones
	pack    func(ctx context.Context, fn entryFunc) error
	part    func(ctx context.Context, name string, fn entryFunc) error // pack of one object below; nil: it cannot be told
}

// copyStep is one COPY or ADD.
type copyStep struct {
	name  string // COPY, ADD
	items []item
	dest  string // as it is written
	look
	text, shown string
}

// copy carries COPY out.
func (st *stage) copy(ctx context.Context, cmd *instructions.CopyCommand) error {
	src, err := st.sourceOf(ctx, cmd.From, len(cmd.SourcePaths))
	if err != nil {
		return err
	}
	items := inlineFiles(cmd.SourceContents)
	for _, p := range cmd.SourcePaths {
		found, err := match(ctx, src, p, cmd.Parents)
		if err != nil {
			return err
		}
		items = append(items, found...)
	}
	flags := flagText("from", cmd.From) + flagText("chown", cmd.Chown) + flagText("chmod", cmd.Chmod)
	return st.put(ctx, &copyStep{
		name: "COPY", items: items, dest: cmd.DestPath, look: look{cmd.Chown, cmd.Chmod, cmd.ExcludePatterns},
		text: "COPY " + flags + sourcesText(&cmd.SourcesAndDest), shown: cmd.String(),
	})
}

// sourceOf is source where there are paths to be found in it.
func (st *stage) sourceOf(ctx context.Context, from string, paths int) (source, error) {
	if paths == 0 {
		return nil, nil
	}
	return st.source(ctx, from)
}

func flagText(name, value string) string {
	if value == "" {
		return ""
	}
	return "--" + name + "=" + value + " "
}

func sourcesText(s *instructions.SourcesAndDest) string {
	var words []string
	for _, c := range s.SourceContents {
		words = append(words, "<<"+c.Path)
	}
	return strings.Join(append(append(words, s.SourcePaths...), s.DestPath), " ")
}

// inlineFiles are those whose content is in the Dockerfile itself.
func inlineFiles(list []instructions.SourceContent) (items []item) {
	for _, c := range list {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: ".", Mode: 0o644, Size: int64(len(c.Data))}
		items = append(items, item{source: c.Path, name: path.Base(c.Path), pack: func(_ context.Context, fn entryFunc) error {
			entry := *h
			return fn(&entry, strings.NewReader(c.Data))
		}})
	}
	return items
}

// put makes the layer of a COPY or ADD.
func (st *stage) put(ctx context.Context, s *copyStep) error {
	if len(s.items) == 0 { // wildcards that match nothing make no directory either
		st.say(s.shown)
		st.note(s.text)
		return nil
	}
	onlyDir := strings.HasSuffix(s.dest, "/") || s.dest == "." || strings.HasSuffix(s.dest, "/.")
	if len(s.items) > 1 && !onlyDir && !s.items[0].isDir { // the content of that makes a directory of it
		return fmt.Errorf("%s of several files needs a directory to put them into: end %s with a slash", s.name, s.dest)
	}
	dest := st.inWorkingDir(s.dest)
	sum, err := contentOf(ctx, s.items, &s.look)
	if err != nil {
		return err
	}
	return st.layer(ctx, layer{
		text: s.text, shown: s.shown, depends: []any{dest, onlyDir, s.chown, s.chmod, sum},
		options: func(context.Context) (run.CreateOptions, error) { return still(), nil },
		work: func(ctx context.Context, c *run.Created) error {
			c.Lock.Release()
			return st.b.fill(ctx, c, s, dest, onlyDir, sum)
		},
	})
}

// still are the options of a container that never runs.
func still() run.CreateOptions {
	return run.CreateOptions{Step: record.StepFiles, Config: new(layerstore.ContainerConfig), Command: []string{"/"}}
}

// inWorkingDir is a path of the image, relative ones from the working directory.
func (st *stage) inWorkingDir(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join("/", st.cfg.WorkingDir, p)
}
