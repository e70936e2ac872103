package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// A frame on the control socket is a big-endian length (4 bytes) and that many bytes of JSON, one message. Descriptors
// travel with the length.
const (
	maxFrame = 64 << 20
	maxFDs   = 4
)

// Operations of a message. The supervisor sends opSetup once, then opMaps and opNet when Setup asks to wait for them, then any
// number of opStart, opSignal and opSync, and opEnd at last. Init answers with the others.
const (
	opSetup  = "setup"
	opMaps   = "maps"
	opNet    = "net"
	opStart  = "start"
	opSignal = "signal"
	opSync   = "sync"
	opEnd    = "end" // answer to opEmpty

	opFuse    = "fuse"    // carries the /dev/fuse descriptor of the root
	opStarted = "started" // answer to opStart (and, for process 0, to opSetup); carries the terminal, if any
	opExit    = "exit"    // a started process ended
	opEmpty   = "empty"   // the main process has ended, and every other one: init alone is left
	opError   = "error"   // opStart or opSetup failed
	opProc    = "proc"    // carries a descriptor of the sandbox's /proc
	opSynced  = "synced"  // answer to opSync
	opTracer  = "tracer"  // carries what a tracer is to be started with
)

// message is any frame of the control socket; which fields count depends on Op.
type message struct {
	Op     string      `json:"op"`
	ID     int         `json:"id,omitempty"` // process number; 0 is the main process. opSync, opSynced: of the sync
	Setup  *setup      `json:"setup,omitempty"`
	Spec   *wireSpec   `json:"spec,omitempty"`
	Signal int         `json:"signal,omitempty"`
	Inodes []uint64    `json:"inodes,omitempty"` // opSynced: of the files that init could not sync
	PID    int         `json:"pid,omitempty"`
	Status *ExitStatus `json:"status,omitempty"`
	Code   int         `json:"code,omitempty"` // opError: exit code of a StartError, 0: an error of the sandbox
	Msg    string      `json:"msg,omitempty"`
}

// setup is everything that init needs to know.
type setup struct {
	WaitMaps, WaitNet bool
	HasGroups         bool // setgroups is allowed and ids other than the first exist
	Become            bool // change to user and group 0
	Hostname, Domain  string
	HostIPC, HostNet  bool
	Loopback          bool
	RootDir           string
	FUSEOptions       string
	ReadOnlyRoot      bool
	Mounts            []Mount
	Files             []File
	Devices           []Device
	ShmSize           int64
	Umask             uint32
	OOMScoreAdj       *int
	TTYGroup          bool // group 5 exists in the map
	Masked, ReadOnly  []string
	Rlimits           []Rlimit
	Sysctls           []Sysctl
	Emulate           bool   // ids; the descriptor of the table follows those of Main
	Token             string // of the root's server
	IdentityFilter    []byte
	BaseUID, BaseGID  uint32
	Main              wireSpec
}

// wireSpec is a Spec as init gets it: capabilities and filter are resolved. Its standard descriptors come with the
// message when Stdio is set: one for each bit (0, 1, 2), in order.
type wireSpec struct {
	Args       []string
	Env        []string
	Cwd        string
	User       User
	TTY        bool
	Size       Size
	Stdio      int
	Bounding   uint64
	NoNewPrivs bool
	Filter     []byte // instructions of struct sock_filter; empty: none
}

// conn is one end of the control socket. recv is called by one goroutine; send by any.
type conn struct {
	fd     int
	wmu    sync.Mutex
	closed bool // under wmu
}

// close closes the socket. recv must have returned for the last time.
func (c *conn) close() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.closed {
		c.closed = true
		unix.Close(c.fd)
	}
}

// send writes one message with descriptors.
func (c *conn) send(m *message, fds ...int) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s message: %w", m.Op, err)
	}
	if len(body) > maxFrame {
		return fmt.Errorf("send %s message: %d bytes are more than %d", m.Op, len(body), maxFrame)
	}
	buf := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(buf, uint32(len(body)))
	buf = append(buf, body...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.closed {
		return ErrEnded
	}
	for len(buf) > 0 {
		n, err := unix.SendmsgN(c.fd, buf, oob, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return ErrEnded
		}
		if err != nil {
			return fmt.Errorf("send %s message: %w", m.Op, err)
		}
		buf, oob = buf[n:], nil
	}
	return nil
}

// recv reads one message and the descriptors that came with it, which the caller owns. The end of the stream is io.EOF.
func (c *conn) recv() (*message, []int, error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	var fds []int
	for got := 0; got < len(head); {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, head[got:], oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err == nil && oobn > 0 {
			var more []int
			more, err = parseRights(oob[:oobn])
			fds = append(fds, more...)
		}
		if err != nil {
			closeAll(fds)
			return nil, nil, err
		}
		got += n
	}
	m, err := c.body(binary.BigEndian.Uint32(head[:]))
	if err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	return m, fds, nil
}

func (c *conn) body(size uint32) (*message, error) {
	if size > maxFrame {
		return nil, fmt.Errorf("read message: %d bytes are more than %d", size, maxFrame)
	}
	body := make([]byte, size)
	for got := 0; got < len(body); {
		n, err := unix.Read(c.fd, body[got:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("read message: %w", err)
		}
		got += n
	}
	m := new(message)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	return m, nil
}

func parseRights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read descriptors: %w", err)
	}
	var fds []int
	for i := range msgs {
		more, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("read descriptors: %w", err)
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
