package supervise

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"mica/run/mounted"
	"mica/run/record"
)

// fillVolume copies what the image has at the place of an empty volume into
// it, with owners, as Docker does.
func (sess *session) fillVolume(m record.Mount) error {
	v := mounted.Volume(&m)
	v.Anonymous = m.Anonymous
	err := v.Fill(func() error { return sess.copyInto(m) })
	if err != nil {
		return fmt.Errorf("fill volume %s from %s: %w", m.Volume, m.Target, err)
	}
	return nil
}

func (sess *session) copyInto(m record.Mount) error {
	st, err := sess.tree.Stat(m.Target, true)
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
		w.CloseWithError(sess.tree.WriteArchive(context.Background(), w, m.Target, ".", true))
	}()
	defer func() {
		r.Close()
		<-packed // the tree closes after an error
	}()
	direct := len(sess.tree.IDs.UIDs) == 1 && sess.tree.IDs.UIDs[0].Size == 1 // no owner but one can be given
	if !direct {
		if direct, err = sess.tree.OwnedByRoot(m.Target); err != nil {
			return err
		}
	}
	return mounted.Fill(r, &m, sess.tree.IDs, direct)
}
