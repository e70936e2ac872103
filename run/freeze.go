package run

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/run/control"
	"mica/run/sandbox"
)

// serverOptions say how a container's tree is served: the kernel checks
// permissions, and an owner that the container has no id for shows as root.
func serverOptions(t *tree) fs.Options {
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
	return fs.Options{Permissions: true, Awake: true, ShowUID: show(t.ids.HasUID, t.ids.UIDs), ShowGID: show(t.ids.HasGID, t.ids.GIDs)}
}

// commit makes an image of the running container. With pause its processes
// stand still meanwhile, so that the image is of one moment.
func (sess *session) commit(ctx context.Context, e *Engine, req *control.Commit) (string, error) {
	if req.Pause {
		thaw, err := freeze(sess.box)
		if err != nil {
			return "", err
		}
		defer thaw()
	}
	sess.box.Sync()
	return sess.tree.commit(ctx, e, sess.cfg, req.Options)
}

// freeze stops every process of a container and gives the function that lets them go on.
// Processes that start meanwhile are caught in the next round.
func freeze(box *sandbox.Sandbox) (thaw func(), err error) {
	stopped := make(map[int]bool)
	var order []int
	thaw = func() {
		// Children first: a shell that waits for one must not see it stopped.
		for _, pid := range slices.Backward(order) {
			_ = unix.Kill(pid, unix.SIGCONT)
		}
	}
	for {
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
				return nil, fmt.Errorf("pause process %d: %w; commit with --pause=false to go without", pid, err)
			}
		}
		if !fresh {
			return thaw, nil
		}
	}
}

// changed tells the kernel that a name was changed behind its back. That it
// cannot be told means that the mount is gone.
func (sess *session) changed(dir *cow.Node, name string, n *cow.Node) {
	_ = sess.server.Invalidate(dir, name, n)
}
