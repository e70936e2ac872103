package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// IDMode selects how ids in the sandbox relate to the host's.
type IDMode int

const (
	IDsAuto   IDMode = iota // IDsFull where the user has subordinate ranges and newuidmap is there, else IDsSingle
	IDsFull                 // 0 is the user, 1.. are the user's subordinate ids
	IDsSingle               // 0 is the user, there are no other ids
	IDsKeep                 // the user keeps the own id; the others are subordinate ids, or absent without ranges
)

// IDRange maps Size ids from Inside in the sandbox to Outside on the host.
type IDRange struct{ Inside, Outside, Size uint32 }

// IDMap is a resolved mapping. Helpers says that newuidmap and newgidmap have to write it.
type IDMap struct {
	UIDs, GIDs []IDRange
	Helpers    bool
}

// HasUID says whether uid exists in the sandbox.
func (m *IDMap) HasUID(uid uint32) bool { return covers(m.UIDs, uid) }

// HasGID says whether gid exists in the sandbox.
func (m *IDMap) HasGID(gid uint32) bool { return covers(m.GIDs, gid) }

func covers(ranges []IDRange, id uint32) bool {
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Size {
			return true
		}
	}
	return false
}

// Files that name the subordinate ranges; see subuid(5).
const (
	subUIDFile = "/etc/subuid"
	subGIDFile = "/etc/subgid"
)

// ResolveIDs finds the mapping for the calling user. IDsFull without ranges or helpers is a NoIDsError; the other modes do with what is there.
func ResolveIDs(mode IDMode) (IDMap, error) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	single := IDMap{UIDs: []IDRange{{0, uid, 1}}, GIDs: []IDRange{{0, gid, 1}}}
	if mode == IDsSingle {
		return single, nil
	}
	uids, gids, err := subordinate(uid)
	switch {
	case err != nil && mode == IDsFull:
		return IDMap{}, err
	case err != nil && mode == IDsKeep:
		return IDMap{UIDs: []IDRange{{uid, uid, 1}}, GIDs: []IDRange{{gid, gid, 1}}}, nil
	case err != nil:
		return single, nil
	case mode == IDsKeep:
		return IDMap{UIDs: keep(uid, uids), GIDs: keep(gid, gids), Helpers: true}, nil
	}
	return IDMap{UIDs: fill(1, single.UIDs, uids), GIDs: fill(1, single.GIDs, gids), Helpers: true}, nil
}

// NoIDsError is why there are no subordinate ids to use, and what the machine's administrator does about it.
type NoIDsError struct{ Why, Mend string }

func (e *NoIDsError) Error() string {
	return fmt.Sprintf("%s: %s, or choose one id with --userns=single", e.Why, e.Mend)
}

// subordinate returns the ranges of the user, or why there are none to use.
func subordinate(uid uint32) (uids, gids []IDRange, err error) {
	for _, helper := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(helper); err != nil {
			return nil, nil, &NoIDsError{"find " + helper + ": not installed", "install the package uidmap"}
		}
	}
	name := userName(uid)
	for _, f := range []struct {
		path string
		to   *[]IDRange
	}{{subUIDFile, &uids}, {subGIDFile, &gids}} {
		if *f.to, err = readRanges(f.path, name, uid); err != nil {
			return nil, nil, err
		}
		if len(*f.to) == 0 {
			return nil, nil, &NoIDsError{
				fmt.Sprintf("find subordinate ids: %s has no line for %s (%d)", f.path, name, uid),
				fmt.Sprintf("root adds one with \"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s\"", name),
			}
		}
	}
	return uids, gids, nil
}

// userName is the name of uid in /etc/passwd, or the number.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// readRanges reads the ranges of a user from a file in the format of subuid(5). A missing file has none.
func readRanges(path, name string, uid uint32) ([]IDRange, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subordinate ids: %w", err)
	}
	defer f.Close()
	var out []IDRange
	id := strconv.FormatUint(uint64(uid), 10)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(field) != 3 || (field[0] != name && field[0] != id) {
			continue
		}
		start, err1 := strconv.ParseUint(field[1], 10, 32)
		size, err2 := strconv.ParseUint(field[2], 10, 32)
		if err1 != nil || err2 != nil || size == 0 || start+size > 1<<32-1 {
			continue
		}
		out = append(out, IDRange{Outside: uint32(start), Size: uint32(size)})
	}
	return out, lines.Err()
}

// fill appends the ranges to m from the id first inside the sandbox on.
func fill(first uint32, m, ranges []IDRange) []IDRange {
	for _, r := range ranges {
		m = append(m, IDRange{first, r.Outside, r.Size})
		first += r.Size
	}
	return m
}

// keep maps id to itself and everything else to the ranges, in order.
func keep(id uint32, ranges []IDRange) []IDRange {
	var m []IDRange
	next := uint32(0)
	for _, r := range ranges {
		for r.Size > 0 {
			if next == id {
				m = append(m, IDRange{id, id, 1})
				next++
			}
			n := r.Size
			if next < id {
				n = min(n, id-next)
			}
			m = append(m, IDRange{next, r.Outside, n})
			next, r.Outside, r.Size = next+n, r.Outside+n, r.Size-n
		}
	}
	if next <= id {
		m = append(m, IDRange{id, id, 1})
	}
	return m
}

// sysIDs is the form that syscall.SysProcAttr wants.
func sysIDs(ranges []IDRange) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(ranges))
	for i, r := range ranges {
		out[i] = syscall.SysProcIDMap{ContainerID: int(r.Inside), HostID: int(r.Outside), Size: int(r.Size)}
	}
	return out
}

// writeMaps lets newuidmap and newgidmap write the maps of pid, both at once.
func (m *IDMap) writeMaps(pid int) error {
	var wg sync.WaitGroup
	var errs [2]error
	for i, h := range []struct {
		helper string
		ranges []IDRange
	}{{"newuidmap", m.UIDs}, {"newgidmap", m.GIDs}} {
		args := []string{h.helper, strconv.Itoa(pid)}
		for _, r := range h.ranges {
			for _, n := range []uint32{r.Inside, r.Outside, r.Size} {
				args = append(args, strconv.FormatUint(uint64(n), 10))
			}
		}
		wg.Go(func() { errs[i] = runHelper(args) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// runHelper runs a program to its end; its output explains a failure. Package os/exec would take longer, which counts here.
func runHelper(args []string) error {
	fail := func(err error) error { return fmt.Errorf("map ids with %s: %w", args[0], err) }
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fail(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fail(err)
	}
	out := os.NewFile(uintptr(pipe[0]), "output")
	defer out.Close()
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Files: []uintptr{uintptr(pipe[1]), uintptr(pipe[1]), uintptr(pipe[1])}})
	unix.Close(pipe[1])
	if err != nil {
		return fail(err)
	}
	var ws syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil && ws.ExitStatus() != 0 {
		said, _ := io.ReadAll(out)
		err = fmt.Errorf("exit status %d: %s", ws.ExitStatus(), strings.TrimSpace(string(said)))
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
