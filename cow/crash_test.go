package cow

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The crash rule of copy-up in blocks, against a model of a disk: content,
// block maps, sizes and records are written back in any order and at any time,
// unless a barrier comes between. After a power loss
//
//	each block is as it was at some moment since the last fsync
//	and the size is one that the file had since then,
//
// so that synced content is there and zeros are nowhere where there were none.
// Without a power loss, all that was written is there.

const page = 4096

// diskState is what the caches hold of one copied-up file at one moment.
type diskState struct {
	there  bool // the file is in the upper
	data   []byte
	record string
	maps   map[string][]byte
}

// barriers says from which state on each part of the disk may lag.
type barriers struct {
	data, meta, names, maps int
}

// moment is one at which the power may fail.
type moment struct {
	last  int // the latest state
	kept  barriers
	since int // the version of the content that was synced last
	until int // the latest version, and the one being made
}

// crashModel is a machine that keeps a history instead of a disk.
type crashModel struct {
	t       *testing.T
	cfg     Config
	boot    int
	states  []diskState
	kept    barriers
	moments []moment

	versions []string // of the content, as users of the union see it
	since    int
}

func (m *crashModel) bootID() (string, error) { return fmt.Sprintf("%032d", m.boot), nil }

func (m *crashModel) fsync(fd int) error {
	now := m.note()
	if path := m.opened(fd); path == m.upperFile() {
		m.kept.data, m.kept.meta = now, now
	} else if strings.HasPrefix(path, m.cfg.Work) {
		m.kept.names = now
	}
	return nil
}

func (m *crashModel) fdatasync(fd int) error {
	now := m.note()
	if m.opened(fd) == m.upperFile() {
		m.kept.data = now
	}
	return nil
}

func (m *crashModel) msync([]byte) error {
	m.kept.maps = m.note()
	return nil
}

func (m *crashModel) syncfs(int) error {
	now := m.note()
	m.kept = barriers{now, now, now, now}
	return nil
}

func (m *crashModel) opened(fd int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	must(m.t, err)
	return path
}

func (m *crashModel) upperFile() string { return filepath.Join(m.cfg.Upper, "f") }

// note adds the present state to the history.
func (m *crashModel) note() int {
	s := diskState{maps: make(map[string][]byte)}
	data, err := os.ReadFile(m.upperFile())
	if s.there = err == nil; s.there {
		s.data = data
		buf := make([]byte, 4096)
		size, err := unix.Lgetxattr(m.upperFile(), originXattr, buf)
		must(m.t, err)
		s.record = string(buf[:size])
	}
	dir := filepath.Join(m.cfg.Work, mapsName)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if s.maps[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			m.t.Fatal(err)
		}
	}
	m.states = append(m.states, s)
	last := len(m.states) - 1
	m.moments = append(m.moments, moment{last, m.kept, m.since, len(m.versions)})
	return last
}

// begin starts the history anew from what is on disk.
func (m *crashModel) begin() {
	m.states, m.moments, m.kept = nil, nil, barriers{}
	m.note()
}

// settled says what users saw first in a history that has begun.
func (m *crashModel) settled(content string) {
	m.versions, m.since = []string{content}, 0
	for i := range m.moments {
		m.moments[i].since, m.moments[i].until = 0, 0
	}
	m.note()
}

// lose puts on disk what a power loss at a moment may leave there.
func (m *crashModel) lose(rng *rand.Rand, at moment) {
	pick := chooser(rng, at.last)
	meta := m.states[pick(at.kept.meta)]
	file := m.upperFile()
	must(m.t, os.RemoveAll(file))
	if meta.there {
		// What a rename put into place was written before it was renamed.
		first := slices.IndexFunc(m.states, func(s diskState) bool { return s.there })
		size := len(m.states[pick(max(first, at.kept.data))].data)
		data := make([]byte, size)
		for off := 0; off < size; off += page {
			copy(data[off:min(off+page, size)], cut(m.states[pick(at.kept.data)].data, off))
		}
		must(m.t, os.WriteFile(file, data, 0o644))
		must(m.t, unix.Setxattr(file, originXattr, []byte(meta.record), 0))
	}
	dir := filepath.Join(m.cfg.Work, mapsName)
	for name, whole := range m.states[at.last].maps {
		_, kept := m.states[at.kept.names].maps[name]
		size := len(m.states[pick(at.kept.maps)].maps[name])
		if _, there := m.states[pick(0)].maps[name]; !kept && !there {
			must(m.t, os.RemoveAll(filepath.Join(dir, name)))
			continue
		}
		data := make([]byte, min(size, len(whole)))
		for off := 0; off < size; off += page {
			copy(data[off:min(off+page, size)], cut(m.states[pick(at.kept.maps)].maps[name], off))
		}
		must(m.t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	m.boot++
}

// chooser gives a choice of a state from one on: mostly a mixture, at times
// the oldest or the latest for a whole run, which are the likely ones.
func chooser(rng *rand.Rand, last int) func(from int) int {
	mode := rng.IntN(5)
	return func(from int) int {
		switch {
		case mode == 0 || mode == 1 && rng.IntN(4) > 0:
			return from
		case mode == 2 && rng.IntN(4) > 0:
			return last
		}
		return from + rng.IntN(last-from+1)
	}
}

// cut gives the page of data at off, which may lie past its end.
func cut(data []byte, off int) []byte {
	if off >= len(data) {
		return nil
	}
	return data[off:min(off+page, len(data))]
}

// check compares content after a power loss with the rule.
func (m *crashModel) check(at moment, got string) error {
	allowed := m.versions[at.since:min(at.until+1, len(m.versions))]
	if !slices.ContainsFunc(allowed, func(v string) bool { return len(v) == len(got) }) {
		var sizes []int
		for _, v := range allowed {
			sizes = append(sizes, len(v))
		}
		return fmt.Errorf("size %d, may be %v", len(got), sizes)
	}
	for off := 0; off < len(got); off += page {
		block := cut([]byte(got), off)
		same := func(v string) bool {
			want := make([]byte, len(block))
			copy(want, cut([]byte(v), off))
			return bytes.Equal(want, block)
		}
		if !slices.ContainsFunc(allowed, same) {
			return fmt.Errorf("block %d is %s, which it never was since the last fsync", off/page, show(block))
		}
	}
	return nil
}

// show shortens a block: its runs of equal bytes.
func show(block []byte) string {
	var b strings.Builder
	for i := 0; i < len(block); {
		j := i
		for j < len(block) && block[j] == block[i] {
			j++
		}
		fmt.Fprintf(&b, "%q*%d ", block[i], j-i)
		i = j
	}
	return b.String()
}

// history is a random sequence of operations on one file.
type history struct {
	*crashModel
	u    *union
	rng  *rand.Rand
	next byte
	log  []string
}

// step does one operation on the union and on a copy in memory.
func (h *history) step() {
	h.t.Helper()
	now := []byte(h.versions[len(h.versions)-1])
	place := func() int64 { // mostly near the ends and the borders of blocks
		off := int64(h.rng.IntN(len(now) + page))
		if h.rng.IntN(2) == 0 {
			off = max(0, int64(len(now))-int64(h.rng.IntN(2*page)))
		}
		if h.rng.IntN(3) == 0 {
			off &^= page - 1
		}
		return off
	}
	resize := func(size int64) {
		if grow := size - int64(len(now)); grow > 0 {
			now = append(now, make([]byte, grow)...)
		}
		now = now[:size]
	}
	do := func(log string, fn func(n *Node) error) {
		h.log = append(h.log, log)
		if err := h.u.with("f", fn); err != nil {
			h.t.Fatalf("%v: %v", h.log, err)
		}
	}
	var a Attr
	switch op := h.rng.IntN(20); {
	case op < 9:
		off, size := place(), int64(1+h.rng.IntN(2*page))
		if h.rng.IntN(3) == 0 {
			size = page
		}
		h.next = max(h.next+1, 1)
		data := bytes.Repeat([]byte{h.next}, int(size))
		resize(max(int64(len(now)), off+size))
		copy(now[off:], data)
		do(fmt.Sprintf("write %d+%d %q", off, size, h.next), func(n *Node) error { return h.u.Write(n, data, off, false) })
	case op < 11:
		size := place()
		resize(size)
		do(fmt.Sprintf("truncate %d", size), func(n *Node) error { return h.u.Setattr(n, SetAttr{Size: &size}, &a) })
	case op < 13:
		off := min(place(), int64(len(now)))
		size := min(int64(page), int64(len(now))-off)
		if size == 0 {
			return
		}
		clear(now[off : off+size])
		do(fmt.Sprintf("punch %d+%d", off, size), func(n *Node) error {
			return h.u.Fallocate(n, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size, false)
		})
	case op < 14:
		do("chmod", func(n *Node) error {
			mode := uint32(0o600)
			return h.u.Setattr(n, SetAttr{Mode: &mode}, &a)
		})
	case op < 17:
		dataOnly := h.rng.IntN(2) == 0
		do(fmt.Sprintf("fsync %v", dataOnly), func(n *Node) error { return h.u.Fsync(n, dataOnly) })
		if h.u.attr("f"); h.inUpper() {
			h.since = len(h.versions) - 1
		}
	case op < 18:
		h.log = append(h.log, "background sync")
		must(h.t, h.u.Sync())
	case op < 19:
		h.log = append(h.log, "kill")
		h.u.kill()
		h.u.reopen()
	default:
		h.log = append(h.log, "close")
		h.u.reopen()
	}
	if string(now) != h.versions[len(h.versions)-1] {
		h.versions = append(h.versions, string(now))
	}
	h.note()
	if got := h.u.content("f"); got != string(now) {
		h.t.Fatalf("after %v: %v", h.log, diff(got, string(now)))
	}
}

// inUpper tells whether the file has been copied up.
func (h *history) inUpper() bool {
	_, err := os.Lstat(h.upperFile())
	return err == nil
}

func diff(got, want string) string {
	if len(got) != len(want) {
		return fmt.Sprintf("size %d, want %d", len(got), len(want))
	}
	for off := 0; off < len(got); off += page {
		if g, w := cut([]byte(got), off), cut([]byte(want), off); !bytes.Equal(g, w) {
			return fmt.Sprintf("block %d is %s, want %s", off/page, show(g), show(w))
		}
	}
	return "equal"
}

// powerLoss fails the machine at a moment and gives what is found afterwards.
func (h *history) powerLoss(at moment) string {
	h.t.Helper()
	h.lose(h.rng, at)
	h.begin() // the power may fail during the recovery as well
	f, err := Open(h.cfg)
	must(h.t, err)
	h.u.FS = f
	var got string
	err = h.u.with("f", func(n *Node) error {
		got, err = f.readAll(n)
		return err
	})
	if err == nil {
		err = h.check(at, got)
	}
	if err != nil {
		h.t.Fatalf("after a power loss during %v: %v", h.log, err)
	}
	return got
}

// TestCrash plays random histories with power losses at any moment, some of
// them one after the other on what the last one left.
func TestCrash(t *testing.T) {
	const block = "0123456789abcdef"
	sizes := map[string]int{
		"copied whole":      2*page + 100,
		"copied in blocks":  smallFile + 2*page,
		"ends in a block":   smallFile + page + 1234,
		"with holes at end": smallFile + 3*page,
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		t.Run(name, func(t *testing.T) {
			content := strings.Repeat(block, sizes[name]/len(block)+1)[:sizes[name]]
			t.Parallel()
			for seed := range uint64(crashSeeds) {
				playCrashes(t, seed, content, strings.Contains(name, "holes"))
			}
		})
	}
}

// crashSeeds is how many histories a test plays for each kind of file.
const crashSeeds = 8

func playCrashes(t *testing.T, seed uint64, content string, holes bool) {
	cfg := layers(t, tree{"f": content})
	if holes {
		size := int64(len(content))
		content = content[:size-2*page] + strings.Repeat("\x00", 2*page)
		lower := filepath.Join(cfg.Lowers[0].Dir, "f")
		must(t, os.Truncate(lower, size-2*page))
		must(t, os.Truncate(lower, size))
	}
	m := &crashModel{t: t, cfg: cfg}
	cfg.machine = m
	m.cfg = cfg
	h := &history{crashModel: m, rng: rand.New(rand.NewPCG(seed, 0)), u: &union{t: t, cfg: cfg}, next: 'A' - 1}
	h.u.reopen()
	h.log = append(h.log, fmt.Sprintf("seed %d", seed))
	h.begin()
	h.settled(content)
	for range 3 {
		for range 2 + h.rng.IntN(6) {
			h.step()
		}
		h.u.kill()
		// Several losses from the same history, at any moment of it; the last
		// is what goes on.
		var got string
		states, moments, log := m.states, m.moments, len(h.log)
		for i := range 6 {
			at := moments[h.rng.IntN(len(moments))]
			if i >= 4 {
				at = moments[len(moments)-1]
			}
			m.states, h.log = states, h.log[:log]
			got = h.powerLoss(at)
			if i < 5 {
				h.u.kill()
			}
		}
		h.log = append(h.log, "POWER LOSS")
		h.settled(got)
	}
	h.u.close()
}
