package sandbox

import (
	"maps"
	"os"
	"slices"
	"time"
)

// server is what serves a FUSE mount by its number in messages, nil if nothing does: 0 is the root, n+1 the mount with the
// index n.
func (c *Config) server(number int) Server {
	switch {
	case number == 0:
		return c.Root.Server
	case number > 0 && number <= len(c.Mounts):
		return c.Mounts[number-1].Server
	}
	return nil
}

// serve has the mount with a number served and says whether it took the descriptor. The root comes first.
func (s *Sandbox) serve(number int, fds []int) bool {
	server := s.cfg.server(number)
	if server == nil || len(fds) != 1 {
		return false
	}
	s.mu.Lock()
	refuse := s.serving[number] != nil || number > 0 && s.cfg.Root.Server != nil && s.serving[0] == nil
	if !refuse {
		s.serving[number] = server
	}
	s.mu.Unlock()
	if refuse {
		return false
	}
	if number == 0 && s.view != nil && s.cfg.Root.Owner != nil {
		s.cfg.Root.Owner(s.view.Owner)
	}
	dev := os.NewFile(uintptr(fds[0]), "/dev/fuse")
	s.servers.Go(func() {
		err := server.Serve(dev)
		s.mu.Lock()
		if s.serveErr == nil {
			s.serveErr = err
		}
		s.mu.Unlock()
		s.Kill() // a mount that is gone is the end; no harm when init is gone already
	})
	return true
}

// servingNow lists the servers that have their mount.
func (s *Sandbox) servingNow() []Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.serving))
}

// How long the servers are waited for.
const (
	endDrain  = time.Minute            // nobody gives them more to do
	syncDrain = 100 * time.Millisecond // processes may go on
	// abandonAfter is for programs elsewhere that still use files of a sandbox that has ended.
	abandonAfter = 2 * time.Second
)

// drain returns when the servers have nothing to do, or after limit for each.
func (s *Sandbox) drain(limit time.Duration) {
	for _, server := range s.servingNow() {
		server.Drain(limit)
	}
}

// writeBack has the servers get what has been put into mapped pages of files with some inode numbers, on whichever mount.
func (s *Sandbox) writeBack(inodes []uint64) error {
	if len(inodes) == 0 {
		return nil
	}
	for _, server := range s.servingNow() {
		if err := server.WriteBack(inodes); err != nil {
			return err
		}
	}
	return nil
}

// awaitServers returns when nothing is served any more, of a sandbox without processes.
func (s *Sandbox) awaitServers() {
	for _, server := range s.servingNow() {
		go server.AbandonWhenIdle(abandonAfter)
	}
	s.servers.Wait()
}
