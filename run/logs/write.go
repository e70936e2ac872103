// Package logs is the log of a container: what its main process says, a line of JSON for each line, in files that are replaced by
// new ones when they are full. The supervisor writes it, and commands read it, also while it is written.
package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"mica/run/record"
)

// Line is one line of a container's log.
type Line struct {
	Log    string    `json:"log"`    // with its line feed, or a part of a line
	Stream string    `json:"stream"` // stdout, stderr
	Time   time.Time `json:"time"`
}

// Writer appends the output of the main process to the log, a line at a
// time. The file is made when there is something to write.
type Writer struct {
	path string
	opt  record.Log

	mu   sync.Mutex // guards all below
	file *os.File
	size int64
	part map[string][]byte // by stream: the line so far
	err  error             // the first one
	mute time.Time         // until then nothing is tried, since the last try failed
}

// longestLine is the length at which a line is cut into parts.
const longestLine = 16 << 10

// muteTime is how long a log that cannot be written, as on a full disk, is left alone: what is said meanwhile is lost.
const muteTime = time.Second

// NewWriter gives a writer of the log at a path.
func NewWriter(path string, opt record.Log) *Writer {
	return &Writer{path: path, opt: opt, part: make(map[string][]byte)}
}

// Add takes what came over a stream. An error leaves a gap in the log, and does not stop the container.
func (l *Writer) Add(stream string, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.opt.None || now.Before(l.mute) {
		return
	}
	now = now.UTC()
	var out []byte
	buf := l.part[stream]
	for _, c := range p {
		buf = append(buf, c)
		if c == '\n' || len(buf) >= longestLine {
			end := wholeRunes(buf)
			out = appendLine(out, buf[:end], stream, now)
			buf = append(buf[:0], buf[end:]...)
		}
	}
	l.part[stream] = buf
	l.flush(out)
}

// wholeRunes is the length of b without a character that is cut off at its end.
func wholeRunes(b []byte) int {
	for i := len(b) - 1; i >= max(0, len(b)-utf8.UTFMax); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) && i > 0 {
				return i
			}
			break
		}
	}
	return len(b)
}

// Close writes lines that never ended.
func (l *Writer) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for stream, buf := range l.part {
		if len(buf) > 0 {
			l.flush(appendLine(nil, buf, stream, time.Now().UTC()))
			l.part[stream] = nil
		}
	}
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	return l.err
}

func (l *Writer) flush(out []byte) {
	if len(out) == 0 {
		return
	}
	err := l.append(out)
	if err == nil {
		return
	}
	l.mute = time.Now().Add(muteTime)
	clear(l.part) // what comes after the gap is not its end
	if l.err == nil {
		l.err = fmt.Errorf("write the log: %w", err)
		fmt.Fprintln(os.Stderr, l.err)
	}
}

func (l *Writer) append(out []byte) error {
	for len(out) > 0 {
		if err := l.open(); err != nil {
			return err
		}
		part := l.fitting(out)
		if len(part) == 0 {
			if err := l.rotate(); err != nil {
				return err
			}
			part = l.fitting(out)
		}
		if err := l.put(part); err != nil {
			return err
		}
		out = out[len(part):]
	}
	return nil
}

// fitting gives as many lines as the file has room for; an empty one has room for any.
func (l *Writer) fitting(lines []byte) []byte {
	room := l.opt.MaxSize - l.size
	if l.opt.MaxSize == 0 || int64(len(lines)) <= room {
		return lines
	}
	end := bytes.LastIndexByte(lines[:max(room, 0)], '\n') + 1
	if end == 0 && l.size == 0 {
		end = bytes.IndexByte(lines, '\n') + 1
	}
	return lines[:end]
}

func (l *Writer) put(out []byte) error {
	n, err := l.file.Write(out)
	if err == nil {
		l.size += int64(n)
	} else if n > 0 {
		_ = l.file.Truncate(l.size) // half a line would spoil the next one
	}
	return err
}

func (l *Writer) open() error {
	if l.file != nil {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, st.Size()
	return nil
}

// olderLog is the name of the log n files before the current one.
func olderLog(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// rotate begins a new file, and drops the oldest one.
func (l *Writer) rotate() error {
	l.file.Close()
	l.file = nil
	last := max(l.opt.Files, 1) - 1
	if err := os.Remove(olderLog(l.path, last)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for n := last; n > 0; n-- {
		if err := os.Rename(olderLog(l.path, n-1), olderLog(l.path, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return l.open()
}

func appendLine(out, line []byte, stream string, now time.Time) []byte {
	data, err := json.Marshal(Line{Log: string(line), Stream: stream, Time: now})
	if err != nil { // strings and a time always marshal
		return out
	}
	return append(append(out, data...), '\n')
}
