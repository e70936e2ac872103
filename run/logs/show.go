package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/run/record"
)

// Options say which part of a log is shown.
type Options struct {
	Follow       bool
	Timestamps   bool
	Tail         int       // lines from the end; negative: all
	Since, Until time.Time // zero: no limit
}

// Show writes the output that a container's main process has written, and
// with Follow what it goes on to write until it ends.
func Show(ctx context.Context, c *record.Container, opt Options, stdout, stderr io.Writer) error {
	// By way of the directory, whose name goes when the container is removed.
	dir, err := c.OpenForReading()
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer dir.Close()
	log := filepath.Join(sys.FdPath(int(dir.Fd())), filepath.Base(c.LogPath()))
	p := &printer{opt: opt, files: max(c.Config.Host.Log.Files, 1), out: map[string]io.Writer{"stdout": stdout, "stderr": stderr}}
	defer p.close()
	if c.Config.Host.Log.None {
		return errors.New("the container keeps no log: it was made with --log-driver none")
	}
	if !opt.Follow {
		return p.look(log)
	}
	// The watch comes first, so that nothing written meanwhile is missed.
	watch, err := watchDir(c.Path())
	if err != nil {
		return err
	}
	defer watch.Close()
	stop := context.AfterFunc(ctx, func() { watch.Close() })
	defer stop()
	if c.State.Alive() {
		// One that is open can be read to its end even if all is removed meanwhile.
		if f, err := os.OpenFile(log, os.O_RDONLY|os.O_CREATE, 0o600); err == nil {
			f.Close()
		}
	}
	buf := make([]byte, 4096)
	for {
		refreshErr := c.Refresh() // before the reading: what is written until the end is read
		if err := p.look(log); err != nil {
			return err
		}
		if errors.Is(refreshErr, record.ErrNotFound) || refreshErr == nil && !c.State.Alive() {
			return nil
		}
		if refreshErr != nil {
			return refreshErr
		}
		// A supervisor that dies writes nothing: look again now and then.
		_ = watch.SetReadDeadline(nextLook(opt.Until))
		if _, err := watch.Read(buf); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if !opt.Until.IsZero() && time.Now().After(opt.Until) {
			return p.look(log)
		}
	}
}

// nextLook is when to look at a log again though nothing was heard of it.
func nextLook(until time.Time) time.Time {
	next := time.Now().Add(2 * time.Second)
	if !until.IsZero() && until.Before(next) {
		return until
	}
	return next
}

// watchDir hears of files that change in a directory.
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the log: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MOVE_SELF); err != nil {
		f.Close()
		return nil, fmt.Errorf("watch %s: %w", filepath.Base(dir), err)
	}
	return f, nil
}

// printer writes the lines of a log from where it stopped the last time.
type printer struct {
	opt   Options
	files int // how many there may be
	out   map[string]io.Writer
	at    *os.File // where it stopped; held open, so that it is known again under another name
	off   int64    // there
}

func (p *printer) close() {
	if p.at != nil {
		p.at.Close()
	}
}

// look prints what is new in the log.
func (p *printer) look(path string) error {
	files, err := openLogs(path, p.files)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() {
		for _, f := range files {
			if f != p.at {
				f.Close()
			}
		}
	}()
	next := files
	if p.at != nil {
		if err := p.rest(); err != nil {
			return err
		}
		if i := slices.IndexFunc(files, func(f *os.File) bool { return sameFile(f, p.at) }); i >= 0 {
			next = files[i+1:]
		}
	} else if p.opt.Tail >= 0 {
		var off int64
		if next, off, err = tailOf(files, p.opt.Tail); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if len(next) > 0 {
			p.at, p.off = next[0], off
			if err := p.rest(); err != nil {
				return err
			}
			next = next[1:]
		}
	}
	for _, f := range next {
		p.close()
		p.at, p.off = f, 0
		if err := p.rest(); err != nil {
			return err
		}
	}
	return nil
}

// openLogs opens the files of a log, the oldest first. Where their names move on meanwhile, it begins again.
func openLogs(path string, most int) ([]*os.File, error) {
	for attempt := 0; ; attempt++ {
		files, err := openLogsOnce(path, most)
		if err != nil || len(files) == 0 || attempt > 10 {
			return files, err
		}
		current, err := os.Open(path)
		if err == nil {
			same := sameFile(current, files[len(files)-1])
			current.Close()
			if same {
				return files, nil
			}
		} else if !errors.Is(err, os.ErrNotExist) { // in the middle of a rotation, or removed
			closeLogs(files)
			return nil, err
		}
		if attempt == 10 {
			return files, nil
		}
		closeLogs(files)
	}
}

// openLogsOnce opens the current file first: what then moves on comes twice, which can be told, and is not left out.
func openLogsOnce(path string, most int) ([]*os.File, error) {
	var files []*os.File
	for n := range most {
		f, err := os.Open(olderLog(path, n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			closeLogs(files)
			return nil, err
		}
		if slices.ContainsFunc(files, func(have *os.File) bool { return sameFile(f, have) }) {
			f.Close()
			continue
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	return files, nil
}

func closeLogs(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// rest prints what comes after the place where it stopped in one file.
func (p *printer) rest() error {
	r := bufio.NewReader(io.NewSectionReader(p.at, p.off, math.MaxInt64-p.off))
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil // what has no end yet is read the next time
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		p.off += int64(len(line))
		if err := p.line(line); err != nil {
			return err
		}
	}
}

func (p *printer) line(data []byte) error {
	var l Line
	if err := json.Unmarshal(data, &l); err != nil {
		return nil // a line cut off by a power loss
	}
	if !p.opt.Since.IsZero() && l.Time.Before(p.opt.Since) || !p.opt.Until.IsZero() && l.Time.After(p.opt.Until) {
		return nil
	}
	text := l.Log
	if p.opt.Timestamps {
		text = l.Time.Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
	}
	out := p.out[l.Stream]
	if out == nil {
		return nil
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

// tailOf gives the files in which the last n lines are, and where they begin in the first of these.
func tailOf(files []*os.File, n int) ([]*os.File, int64, error) {
	for i := len(files) - 1; i >= 0; i-- {
		off, left, err := tailOffset(files[i], n)
		if err != nil || left == 0 || i == 0 {
			return files[i:], off, err
		}
		n = left
	}
	return nil, 0, nil
}

// tailOffset finds where the last n lines of a file begin, and how many it has too few.
func tailOffset(f *os.File, n int) (off int64, left int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := st.Size()
	if n == 0 || end == 0 {
		return end, n, nil
	}
	buf := make([]byte, 64<<10)
	for pos := end; pos > 0; {
		size := min(int64(len(buf)), pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return 0, 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if n--; n == 0 {
				return pos + i + 1, 0, nil
			}
		}
	}
	return 0, n - 1, nil
}
