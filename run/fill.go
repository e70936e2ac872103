package run

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/run/record"
)

// fillVolume copies what the image has at the place of an empty volume into
// it, with owners, as Docker does.
func (sess *session) fillVolume(m record.Mount) error {
	v := volumeOf(&m)
	v.Anonymous = m.Anonymous
	err := v.Fill(func() error { return sess.copyInto(m) })
	if err != nil {
		return fmt.Errorf("fill volume %s from %s: %w", m.Volume, m.Target, err)
	}
	return nil
}

func (sess *session) copyInto(m record.Mount) error {
	st, err := sess.tree.statPath(m.Target, true)
	if err != nil {
		return err
	}
	if st == nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		w.CloseWithError(sess.tree.writeArchive(context.Background(), w, m.Target, ".", true))
	}()
	defer func() {
		r.Close()
		<-packed // the tree closes after an error
	}()
	direct := len(sess.tree.ids.UIDs) == 1 && sess.tree.ids.UIDs[0].Size == 1 // no owner but one can be given
	if !direct {
		if direct, err = sess.tree.ownedByRoot(m.Target); err != nil {
			return err
		}
	}
	place := hostPlace{dir: sourceOf(&m), path: "."}
	if direct {
		return place.unpack(r, false)
	}
	return inUserNamespace(sess.tree.ids, r, nil, place.args("unpack", "", true)...)
}

// ownedByRoot tells whether a directory and all in it belong to 0:0.
func (t *tree) ownedByRoot(p string) (bool, error) {
	n, attr, err := t.lookup(p, true)
	if err != nil {
		return false, fmt.Errorf("open %s in the container: %w", p, err)
	}
	defer t.forget(n)
	return t.nodeOwnedByRoot(n, &attr)
}

func (t *tree) nodeOwnedByRoot(n *cow.Node, attr *cow.Attr) (bool, error) {
	if attr.UID != 0 || attr.GID != 0 {
		return false, nil
	}
	if !n.IsDir() {
		return true, nil
	}
	var names []string
	err := t.union.ReadDir(n, 0, func(e cow.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if err != nil {
		return false, err
	}
	for _, name := range names {
		var childAttr cow.Attr
		child, err := t.union.Lookup(n, name, &childAttr)
		if err != nil {
			return false, err
		}
		all, err := t.nodeOwnedByRoot(child, &childAttr)
		t.forget(child)
		if err != nil || !all {
			return false, err
		}
	}
	return true, nil
}
