package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mica/run/record"
	"mica/whiteout"
)

// changedSince tells whether something was changed in the home directory after
// the container did: after the start of the run in which its copy, or the mark that it is deleted, was born. What was
// changed within that run the container may not have seen.
func (p *plan) changedSince(rel string, st *unix.Statx_t) (bool, error) {
	birth, ok := p.birth(rel)
	if !ok {
		return false, nil // the filesystem does not tell
	}
	birth = p.startBefore(birth)
	later := func(sec int64, nsec int64) bool {
		changed := time.Unix(sec, nsec)
		return changed.After(birth) && !slices.ContainsFunc(p.tried, func(s span) bool { return s.has(changed) })
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR {
		return later(st.Ctime.Sec, int64(st.Ctime.Nsec)), nil
	}
	changed := false
	err := filepath.WalkDir(filepath.Join(p.dir, rel), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".wh.") || d.Type()&(fs.ModeSocket|fs.ModeDevice) != 0 {
			changed = true // the container has not seen it, or what it is belongs to a program
			return filepath.SkipAll
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && later(s.Ctim.Sec, s.Ctim.Nsec) {
			changed = true
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look for later changes: %w", err)
	}
	return changed, nil
}

// startBefore is when the run began that a time lies in.
func (p *plan) startBefore(t time.Time) time.Time {
	start := t
	for _, s := range p.starts {
		if !s.After(t.Add(clockTick)) {
			start = s
		}
	}
	return start
}

// noteStart records that a run of the container begins now.
func noteStart(c *record.Container) error {
	f, err := os.OpenFile(c.HomeStarts(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, time.Now().UnixNano())
	return errors.Join(err, f.Close())
}

// readStarts reads what noteStart has recorded, oldest first.
func readStarts(file string) ([]time.Time, error) {
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read of earlier runs: %w", err)
	}
	var list []time.Time
	for line := range strings.Lines(string(data)) {
		if ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			list = append(list, time.Unix(0, ns))
		}
	}
	return list, nil
}

// birth is when what the upper has at a path was made.
func (p *plan) birth(rel string) (time.Time, bool) {
	upper := filepath.Join(p.c.HomeUpper(), rel)
	for _, name := range []string{upper, filepath.Join(filepath.Dir(upper), whiteout.DeleteName(filepath.Base(upper)))} {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st); err == nil {
			return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)), st.Mask&unix.STATX_BTIME != 0
		}
	}
	return time.Time{}, false
}

// span is a time in which this program itself changed the home directory.
type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool { return !t.Before(s.from) && !t.After(s.to) }

// clockTick is how far the times of files may lag behind the clock.
const clockTick = 50 * time.Millisecond

// noteTried records an attempt that began at a time and was taken back now.
func noteTried(file string, began time.Time) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("note the attempt: %w", err)
	}
	_, err = fmt.Fprintln(f, began.Add(-clockTick).UnixNano(), time.Now().UnixNano())
	return errors.Join(err, f.Close())
}

// readTried reads what noteTried has recorded. A line that cannot be read counts for nothing.
func readTried(file string) ([]span, error) {
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read of earlier attempts: %w", err)
	}
	var list []span
	for line := range strings.Lines(string(data)) {
		var from, to int64
		if _, err := fmt.Sscan(line, &from, &to); err == nil {
			list = append(list, span{time.Unix(0, from), time.Unix(0, to)})
		}
	}
	return list, nil
}
