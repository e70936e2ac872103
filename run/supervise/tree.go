package supervise

import (
	"context"
	"fmt"
	"io"

	"mica/run/control"
)

// handleTree does the requests that concern the filesystem.
func (s *supervisor) handleTree(ctx context.Context, conn *control.Conn, req *control.Request) error {
	sess, err := s.current()
	if err != nil {
		return err
	}
	t := sess.tree
	opt := control.CopyOptions{}
	if req.Copy != nil {
		opt = *req.Copy
	}
	switch req.Op {
	case control.OpStat:
		st, err := t.Stat(req.Path, opt.FollowLink)
		if err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, st)
	case control.OpSync:
		if err := sess.box.Sync(); err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, nil)
	case control.OpSize:
		if err := sess.box.Sync(); err != nil {
			return err
		}
		n, err := t.UpperSize(ctx)
		if err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, control.SizeResult{Upper: n})
	case control.OpDiff:
		if err := sess.box.Sync(); err != nil {
			return err
		}
		err := t.Diff(ctx, func(i control.DiffItem) error { return conn.SendJSON(control.KindItem, i) })
		if err != nil {
			return err
		}
		return conn.Send(control.KindEnd, nil)
	case control.OpCopyOut:
		if err := sess.box.Sync(); err != nil {
			return err
		}
		err := t.WriteArchive(ctx, control.StreamWriter{Conn: conn, Kind: control.KindData}, req.Path, opt.Name, opt.FollowLink)
		if err != nil {
			return err
		}
		return conn.Send(control.KindEnd, nil)
	case control.OpCopyIn:
		if err := conn.SendJSON(control.KindOK, nil); err != nil {
			return err
		}
		stream := &control.StreamReader{Conn: conn}
		if err := t.ReadArchive(stream, req.Path, opt.Archive, sess.changed); err != nil {
			return err
		}
		// An archive ends before its stream does, with padding.
		if _, err := io.Copy(io.Discard, stream); err != nil {
			return err
		}
		return conn.Send(control.KindEnd, nil)
	case control.OpCommit:
		if req.Commit == nil {
			return fmt.Errorf("commit: no options")
		}
		if s.isPaused() {
			req.Commit.Pause = false // it stands still already, and goes on doing so
		}
		id, err := sess.commit(ctx, s.engine, req.Commit)
		if err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, control.CommitResult{ID: id})
	}
	return fmt.Errorf("the supervisor does not know the request %q: it was started by another version of mica", req.Op)
}
