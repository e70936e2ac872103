// Package mountserver keeps the mounts of `mica mount` up: each has a process of its own that serves a tree on the host until it is
// unmounted, and a record on disk by which other commands find it.
package mountserver

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/internal/atomicfile"
)

// fdCommand is the descriptor that a server inherits.
const fdCommand = 3

// Main is the whole life of the server of one mount. Its job comes over
// the socket that it inherits; a lock that it inherits is held to its end.
func Main() int {
	unix.CloseOnExec(fdCommand)
	conn := os.NewFile(fdCommand, "command")
	var job Job
	if err := json.NewDecoder(conn).Decode(&job); err != nil {
		return 1
	}
	job.PID = os.Getpid()
	job.Start = startOf(job.PID)
	reply := func(err error) {
		var r answer
		if err != nil {
			r.Error = err.Error()
		}
		_ = json.NewEncoder(conn).Encode(r)
		conn.Close()
	}
	if err := job.serve(func() { reply(nil) }); err != nil {
		reply(err)
		return 1
	}
	return 0
}

// serve mounts, calls ready, and serves until the mount is gone.
func (job *Job) serve(ready func()) error {
	cfg := cow.Config{Lowers: job.Lowers, Observe: !job.RW}
	if job.Dirs != "" {
		cfg.Upper, cfg.Work = filepath.Join(job.Dirs, "upper"), filepath.Join(job.Dirs, "work")
	}
	u, err := cow.Open(cfg)
	if err != nil {
		return err
	}
	mount := fs.MountOptions{Source: "mica:" + job.Ref, Subtype: "mica", Flags: unix.MS_NOSUID | unix.MS_NODEV}
	if !job.RW {
		mount.Flags |= unix.MS_RDONLY
	}
	dev, err := fs.Mount(job.Dir, mount)
	if err != nil {
		u.Close()
		return err
	}
	s := fs.New(u, ownerOptions())
	s.ProcessesAt("/proc")
	stop := job.unmountOnSignal()
	defer stop()
	file, err := job.writeRecord()
	if err != nil {
		_ = fs.Unmount(job.Dir)
		u.Close()
		return err
	}
	defer os.Remove(file)
	go func() {
		<-s.Ready()
		s.Greet(job.Dir)
		ready()
	}()
	if err := s.Serve(dev); err != nil {
		u.Close()
		return err
	}
	return u.Close()
}

// ownerOptions serve a mount to the one user who made it: nothing is enforced,
// and what the user makes belongs to root, as it would if a container's root
// had made it.
func ownerOptions() fs.Options {
	me, group := uint32(os.Getuid()), uint32(os.Getgid())
	own := func(id uint32) func(uint32) uint32 {
		return func(v uint32) uint32 {
			if v == id {
				return 0
			}
			return v
		}
	}
	return fs.Options{StoreUID: own(me), StoreGID: own(group), Awake: true}
}

// unmountOnSignal takes the mount away when the machine or its owner asks the
// server to end.
func (job *Job) unmountOnSignal() (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case <-ch:
			_ = fs.Unmount(job.Dir)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(ch)
		close(done)
	}
}

// writeRecord makes the mount known to other commands.
func (job *Job) writeRecord() (string, error) {
	if err := os.MkdirAll(job.Records, 0o700); err != nil {
		return "", fmt.Errorf("record the mount: %w", err)
	}
	data, err := json.Marshal(&job.Mount)
	if err != nil {
		return "", fmt.Errorf("record the mount: %w", err)
	}
	file := filepath.Join(job.Records, "mount-"+strconv.Itoa(job.PID)+".json")
	if err := atomicfile.Replace(file, data); err != nil {
		return "", fmt.Errorf("record the mount: %w", err)
	}
	return file, nil
}
