package build

import (
	"archive/tar"
	"context"
	"path"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// workdir sets the working directory, and makes it where the image lacks it, for the user of the stage.
func (st *stage) workdir(ctx context.Context, cmd *instructions.WorkdirCommand) error {
	text, err := st.edit.Apply(cmd, st.b.escape, nil)
	if err != nil {
		return err
	}
	dir := st.cfg.WorkingDir
	if there, err := st.hasDir(ctx, dir); there || err != nil {
		st.configured(text)
		return err
	}
	made := item{name: ".", isDir: true, pack: func(_ context.Context, fn entryFunc) error {
		return fn(&tar.Header{Typeflag: tar.TypeDir, Name: ".", Mode: 0o755}, nil)
	}}
	return st.put(ctx, &copyStep{
		name: "WORKDIR", items: []item{made}, dest: path.Clean(dir) + "/", look: look{chown: st.cfg.User}, text: text, shown: cmd.String(),
	})
}

// hasDir tells whether the image so far has a directory.
func (st *stage) hasDir(ctx context.Context, dir string) (bool, error) {
	if st.img == nil {
		return dir == "/", nil
	}
	t, err := st.b.tree(ctx, st.img)
	if err != nil {
		return false, err
	}
	_, there, err := t.tree.Resolve(dir)
	return there != nil && there.IsDir(), err
}
