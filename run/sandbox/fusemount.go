package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountServed mounts the MountFUSE with the index n and hands its descriptor out. What is mounted below it later already
// asks its server.
func (b *builder) mountServed(n int, m *Mount) error {
	point, err := target(b.root, m.Target, true)
	if err != nil {
		return err
	}
	defer unix.Close(point)
	if err := b.mountFuse(fdPath(point), n+1, uintptr(m.attributes()), "default_permissions,allow_other"); err != nil {
		return fmt.Errorf("mount over %s: %w", m.Target, err)
	}
	return nil
}

// serveMount has the MountFUSE with the index n served and says whether it took the descriptor.
func (s *Sandbox) serveMount(n int, fds []int) bool {
	if n < 0 || n >= len(s.cfg.Mounts) || s.cfg.Mounts[n].Serve == nil || len(fds) != 1 {
		return false
	}
	s.mu.Lock()
	refuse := s.taken[n] || !s.fuseTaken && s.cfg.Root.ServeRoot != nil
	if !refuse {
		if s.taken == nil {
			s.taken = make(map[int]bool)
		}
		s.taken[n] = true
	}
	s.mu.Unlock()
	if refuse {
		return false
	}
	dev := os.NewFile(uintptr(fds[0]), "/dev/fuse")
	s.mounts.Go(func() {
		err := s.cfg.Mounts[n].Serve(dev)
		s.mu.Lock()
		if s.serveErr == nil {
			s.serveErr = err
		}
		s.mu.Unlock()
		s.Kill() // as when the root is gone
	})
	return true
}
