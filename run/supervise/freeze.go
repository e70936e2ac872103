package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/run/control"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/tree"
)

// serverOptions say how a container's tree is served: the kernel checks
// permissions, and an owner that the container has no id for shows as root.
func serverOptions(t *tree.Tree) fs.Options {
	show := func(has func(uint32) bool, ranges []sandbox.IDRange) func(uint32) uint32 {
		// The kernel lets nobody write to what belongs to an id that does not exist.
		other := uint32(0)
		if !has(other) && len(ranges) > 0 {
			other = ranges[0].Inside
		}
		return func(id uint32) uint32 {
			if has(id) {
				return id
			}
			return other
		}
	}
	return fs.Options{Permissions: true, Awake: true, ShowUID: show(t.IDs.HasUID, t.IDs.UIDs), ShowGID: show(t.IDs.HasGID, t.IDs.GIDs)}
}

// commit makes an image of the running container. With pause its processes
// stand still meanwhile, so that the image is of one moment.
func (sess *session) commit(ctx context.Context, e Engine, req *control.Commit) (string, error) {
	if req.Pause {
		thaw, err := freeze(sess.box)
		if err != nil {
			return "", fmt.Errorf("%w; commit with --pause=false to go without", err)
		}
		defer thaw()
	}
	if err := sess.box.Sync(); err != nil {
		return "", err
	}
	return e.CommitTree(ctx, sess.tree, sess.cfg, req.Options)
}

// freezeLimit is how long a container's processes may start new ones faster than they are stopped.
const freezeLimit = 5 * time.Second

// freeze stops every process of a container and gives the function that lets them go on.
// Processes that start meanwhile are caught in the next round.
func freeze(box *sandbox.Sandbox) (thaw func(), err error) {
	stopped := make(map[int]bool)
	var order []int
	thaw = func() { goOn(order) }
	for deadline := time.Now().Add(freezeLimit); ; {
		pids, err := processesOf(box.PID())
		if err != nil {
			thaw()
			return nil, err
		}
		fresh := false
		for _, pid := range pids {
			if stopped[pid] {
				continue
			}
			if err := unix.Kill(pid, unix.SIGSTOP); err == nil {
				stopped[pid], fresh = true, true
				order = append(order, pid)
			} else if err != unix.ESRCH {
				thaw()
				return nil, fmt.Errorf("pause process %d: %w", pid, err)
			}
		}
		if !fresh {
			return thaw, nil
		}
		if time.Now().After(deadline) {
			thaw()
			return nil, errors.New("pause the container: it starts processes faster than they can be stopped")
		}
	}
}

// goOn lets processes go on, children first: a shell that waits for one must not see it stopped.
func goOn(pids []int) {
	for _, pid := range slices.Backward(pids) {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}

// setPaused stops all processes of the container, or lets them go on.
func (s *supervisor) setPaused(paused bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, name := &s.c.State, s.c.Config.Name
	switch {
	case s.session == nil:
		return errNotRunning
	case paused && st.Status == record.Paused:
		return fmt.Errorf("container %s is paused already", name)
	case !paused && st.Status != record.Paused:
		return fmt.Errorf("container %s is not paused", name)
	case !paused:
		return s.resume()
	}
	thaw, err := freeze(s.session.box)
	if err != nil {
		return err
	}
	st.Status = record.Paused
	if err := s.c.WriteState(); err != nil {
		st.Status = record.Running
		thaw()
		return err
	}
	return nil
}

// resume lets a paused container go on. s.mu is held.
func (s *supervisor) resume() error {
	if s.session == nil || s.c.State.Status != record.Paused {
		return nil
	}
	pids, err := processesOf(s.session.box.PID())
	if err != nil {
		return err
	}
	goOn(pids)
	s.c.State.Status = record.Running
	return s.c.WriteState()
}

func (s *supervisor) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c.State.Status == record.Paused
}

// changed tells the kernel that a name was changed behind its back. That it
// cannot be told means that the mount is gone.
func (sess *session) changed(dir *cow.Node, name string, n *cow.Node) {
	_ = sess.server.Invalidate(dir, name, n)
}
