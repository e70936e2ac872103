// Package turns makes turns cheap that two threads take: one asks, waits, and goes on with the answer of the other.
//
// The scheduler wakes the one that answers on another processor than that of the one that asked, which waits meanwhile: both processors
// go to sleep and are woken in every turn. That takes several times as long as the answer itself, and in a virtual machine
// ten times. So the one that answers binds itself to the processor of the other (Place), and a companion process keeps
// the second processor of a small machine from sleeping (Companion).
package turns

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Processes finds threads by their numbers in a mount of proc(5).
type Processes struct {
	fd  int
	all unix.CPUSet // where this process may run
}

// OpenProcesses opens a mount of proc(5).
func OpenProcesses(dir string) (*Processes, error) {
	p := &Processes{}
	if err := unix.SchedGetaffinity(0, &p.all); err != nil {
		return nil, fmt.Errorf("where this process may run: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	p.fd = fd
	return p, nil
}

// Close closes the mount.
func (p *Processes) Close() { unix.Close(p.fd) }

// Status reads the status file of a thread.
func (p *Processes) Status(tid uint32) ([]byte, error) {
	return os.ReadFile(fmt.Sprintf("%s/%d/status", sys.FdPath(p.fd), tid))
}

// Place is where a thread is bound to; the zero value: anywhere. The goroutine must be locked to the thread.
type Place struct {
	cpu int // plus 1; 0: to none
}

// Follow binds the thread to the processor where another one ran last. Where that cannot be told it stays.
func (l *Place) Follow(p *Processes, tid uint32) {
	if p.all.Count() < 2 {
		return
	}
	cpu := p.cpuOf(tid)
	if cpu < 0 || !p.all.IsSet(cpu) || l.cpu == cpu+1 {
		return
	}
	var set unix.CPUSet
	set.Set(cpu)
	if unix.SchedSetaffinity(0, &set) == nil {
		l.cpu = cpu + 1
	}
}

// Leave lets the thread run anywhere again.
func (l *Place) Leave(p *Processes) {
	if l.cpu != 0 {
		l.cpu = 0
		_ = unix.SchedSetaffinity(0, &p.all)
	}
}

// cpuOf gives the processor where a thread ran last, -1 if that cannot be
// told: it is the 39th field of its stat file, the 37th after the name.
func (p *Processes) cpuOf(tid uint32) int {
	var buf [1024]byte
	name := strconv.AppendUint(buf[:0], uint64(tid), 10)
	fd, err := unix.Openat(p.fd, string(name)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	n, err := unix.Read(fd, buf[:])
	unix.Close(fd)
	if err != nil {
		return -1
	}
	_, rest, ok := bytes.Cut(buf[:n], []byte(") "))
	for field := 3; ok && field < 39; field++ {
		_, rest, ok = bytes.Cut(rest, []byte(" "))
	}
	if !ok {
		return -1
	}
	text, _, _ := bytes.Cut(rest, []byte(" "))
	cpu, err := strconv.Atoi(string(text))
	if err != nil {
		return -1
	}
	return cpu
}
