package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"mica/run/sandbox/ids"
)

// identityFilter hands the calls that package ids answers over to init. Nobody sets, or sees, the limit that holds a
// process's credentials.
func identityFilter() []byte {
	const notify = unix.SECCOMP_RET_USER_NOTIF
	equals := func(arg uint32, val uint64) cond { return cond{arg: arg, op: opMaskedEQ, val: 0xffffffff, two: val} }
	kind := func(arg uint32, val uint64) cond { return cond{arg: arg, op: opMaskedEQ, val: unix.S_IFMT, two: val} }
	p := &profile{fallback: unix.SECCOMP_RET_ALLOW, foreign: true, rules: []rule{
		{names: ids.Calls(), action: notify},
		{names: []string{"getsockopt"}, action: notify, conds: []cond{equals(1, unix.SOL_SOCKET), equals(2, unix.SO_PEERCRED)}},
		// All of the argument counts, so that the tracer, which spells it otherwise, is not asked.
		{names: []string{"prctl"}, action: notify, conds: []cond{{arg: 0, op: opEQ, val: unix.PR_SET_NO_NEW_PRIVS}}},
		{names: []string{"getrlimit", "ugetrlimit", "setrlimit"}, action: notify, conds: []cond{equals(0, ids.Resource)}},
		{names: []string{"prlimit64"}, action: notify, conds: []cond{equals(1, ids.Resource)}},
	}}
	for _, option := range []uint64{unix.PR_SET_KEEPCAPS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_SECUREBITS, unix.PR_CAPBSET_DROP, unix.PR_CAP_AMBIENT} {
		p.rules = append(p.rules, rule{names: []string{"prctl"}, action: notify, conds: []cond{equals(0, option)}})
	}
	for name, mode := range map[string]uint32{"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2} {
		setGID := cond{arg: mode, op: opMaskedEQ, val: unix.S_ISGID, two: unix.S_ISGID}
		p.rules = append(p.rules, rule{names: []string{name}, action: notify, conds: []cond{setGID}})
	}
	for _, t := range []uint64{unix.S_IFCHR, unix.S_IFBLK} {
		p.rules = append(p.rules,
			rule{names: []string{"mknod"}, action: notify, conds: []cond{kind(1, t)}},
			rule{names: []string{"mknodat"}, action: notify, conds: []cond{kind(2, t)}})
	}
	return instructions(p.compile(arches()))
}

// listen installs a filter with a listener for the calling thread and what it executes, and returns the listener.
func listen(filter []byte) (int, error) {
	prog := make([]unix.SockFilter, len(filter)/8)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(filter)), filter)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	defer runtime.KeepAlive(prog)
	// The second flag is there since Linux 5.19: without it a signal to the caller, of which Go programs send many, restarts
	// the call.
	for _, flags := range []uintptr{unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER} {
		fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		switch e {
		case 0:
			return int(fd), nil
		case unix.EINVAL:
		case unix.EBUSY:
			return -1, errors.New("emulate ids: mica runs in a container with one id itself, and a program can be in one such container only")
		default:
			return -1, fmt.Errorf("listen for changes of identity: %w", e)
		}
	}
	return -1, errors.New("listen for changes of identity: the kernel is older than 5.5")
}

// emulation is init's part in the emulation of ids; nil without it.
type emulation struct {
	table   *ids.Table
	server  *ids.Server
	filter  []byte
	answers atomic.Uint32
}

// gcEvery is after how many answers init collects its garbage.
const gcEvery = 8192

// startEmulation begins to emulate ids once the root is in place. shared is the descriptor of the memory for the table, which is
// kept for the tracer.
func (i *initProcess) startEmulation(shared int) error {
	mem, err := unix.Mmap(shared, 0, ids.SharedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map table of credentials: %w", err)
	}
	files, err := ids.RootFiles(i.setup.Token)
	if err != nil {
		return err
	}
	e := &emulation{table: ids.NewTable(i.baseCreds(), mem), filter: i.setup.IdentityFilter}
	numbers := func(audit uint32) map[string]uint32 {
		for _, a := range arches() {
			if a.audit == audit {
				return a.numbers()
			}
		}
		return nil
	}
	full := make(chan struct{}, 1)
	tracer := &tracerClient{supervisor: i.conn, shared: shared, answer: func(questions int) { e.server.Answer(questions) }, conn: -1}
	opt := ids.Options{Numbers: numbers, After: func() {
		if e.answers.Add(1)%gcEvery == 0 {
			select {
			case full <- struct{}{}:
			default:
			}
		}
	}, Trace: tracer.attach}
	e.server, err = ids.NewServer(e.table, files, opt)
	if err != nil {
		return err
	}
	go func() {
		for range full {
			// The runtime's own collector is off. It could stop the world while a thread waits for its child to execute, and
			// the child for a goroutine to answer that very call: under the lock nobody executes.
			i.mu.Lock()
			runtime.GC()
			i.mu.Unlock()
		}
	}()
	i.emulation = e
	return nil
}

// baseCreds are the credentials of a process that has not changed any: those of the main one, if it runs as who the kernel takes all
// processes for. Programs that have others are answered for at more cost.
func (i *initProcess) baseCreds() ids.Creds {
	main := &i.setup.Main
	if main.User.UID != i.setup.BaseUID || main.User.GID != i.setup.BaseGID {
		return ids.New(i.setup.BaseUID, i.setup.BaseGID, nil, main.Bounding)
	}
	return processCreds(main)
}

// processCreds are the credentials that a process begins with.
func processCreds(spec *wireSpec) ids.Creds {
	creds := ids.New(spec.User.UID, spec.User.GID, spec.User.Groups, spec.Bounding)
	if spec.NoNewPrivs {
		creds = creds.WithoutNewPrivs()
	}
	return creds
}

// adopt makes the calling thread's next child a process with emulated credentials. done is to be called after the fork.
func (e *emulation) adopt(spec *wireSpec) (done func(), err error) {
	// What this thread starts has the thread's limits.
	elsewhere := func(f func() error) error {
		result := make(chan error)
		go func() { result <- f() }()
		return <-result
	}
	creds := processCreds(spec)
	fd, err := listen(e.filter)
	if err != nil {
		return nil, err
	}
	go e.server.Serve(fd)
	// A child inherits the limit of init, which nobody asks about. This thread may no longer set it.
	set := func(c ids.Creds) error { return elsewhere(func() error { return e.table.Set(0, c) }) }
	if err := set(creds); err != nil {
		return nil, err
	}
	return func() { _ = set(e.table.Base()) }, nil
}

// shareTable makes the memory that a Table in init and the View of the supervisor share.
func shareTable() (fd int, view *ids.View, err error) {
	fd, err = unix.MemfdCreate("mica-ids", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, fmt.Errorf("make table of credentials: %w", err)
	}
	if err = unix.Ftruncate(fd, ids.SharedSize); err == nil {
		// Init must not be able to take the memory away from under the supervisor.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	var mem []byte
	if err == nil {
		mem, err = unix.Mmap(fd, 0, ids.SharedSize, unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, fmt.Errorf("make table of credentials: %w", err)
	}
	return fd, ids.NewView(mem), nil
}
