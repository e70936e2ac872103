package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mica/run/record"
)

// LogOptions say which part of a log is shown.
type LogOptions struct {
	Follow       bool
	Timestamps   bool
	Tail         int       // lines from the end; negative: all
	Since, Until time.Time // zero: no limit
}

// Logs writes the output that a container's main process has written, and
// with Follow what it goes on to write until it ends.
func Logs(ctx context.Context, c *record.Container, opt LogOptions, stdout, stderr io.Writer) error {
	p := &logPrinter{opt: opt, out: map[string]io.Writer{"stdout": stdout, "stderr": stderr}}
	if !opt.Follow {
		return p.file(c.LogPath())
	}
	// The watch comes first, so that nothing written meanwhile is missed.
	watch, err := watchDir(c.Path())
	if err != nil {
		return err
	}
	defer watch.Close()
	stop := context.AfterFunc(ctx, func() { watch.Close() })
	defer stop()
	buf := make([]byte, 4096)
	for {
		refreshErr := c.Refresh() // before the reading: what is written until the end is read
		if err := p.file(c.LogPath()); err != nil {
			return err
		}
		if errors.Is(refreshErr, record.ErrNotFound) || refreshErr == nil && !c.State.Alive() {
			return nil
		}
		if refreshErr != nil {
			return refreshErr
		}
		// A supervisor that dies writes nothing: look again now and then.
		_ = watch.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := watch.Read(buf); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
	}
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

// logPrinter writes the lines of a log from where it stopped the last time.
type logPrinter struct {
	opt     LogOptions
	out     map[string]io.Writer
	off     int64
	started bool
}

// file prints what is new in the file. A missing file is empty.
func (p *logPrinter) file(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer f.Close()
	if !p.started {
		p.started = true
		if p.opt.Tail >= 0 {
			if p.off, err = tailOffset(f, p.opt.Tail); err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
		}
	}
	if _, err := f.Seek(p.off, io.SeekStart); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	r := bufio.NewReader(f)
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

func (p *logPrinter) line(data []byte) error {
	var l LogLine
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

// tailOffset finds where the last n lines of the file begin.
func tailOffset(f *os.File, n int) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end := st.Size()
	if n == 0 {
		return end, nil
	}
	buf := make([]byte, 64<<10)
	for pos := end; pos > 0; {
		size := min(int64(len(buf)), pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if n--; n == 0 {
				return pos + i + 1, nil
			}
		}
	}
	return 0, nil
}
