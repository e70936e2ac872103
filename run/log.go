package run

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// LogLine is one line of a container's log.
type LogLine struct {
	Log    string    `json:"log"`    // with its line feed, or a part of a line
	Stream string    `json:"stream"` // stdout, stderr
	Time   time.Time `json:"time"`
}

// logWriter appends the output of the main process to the log, a line at a
// time. The file is made when there is something to write.
type logWriter struct {
	path string

	mu   sync.Mutex // guards all below
	file *os.File
	part map[string][]byte // by stream: the line so far
	err  error
}

// longestLine is the length at which a line is cut into parts.
const longestLine = 16 << 10

func newLogWriter(path string) *logWriter {
	return &logWriter{path: path, part: make(map[string][]byte)}
}

// write takes what came over a stream. An error stops the log, not the container.
func (l *logWriter) write(stream string, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().UTC()
	var out []byte
	buf := l.part[stream]
	for _, c := range p {
		buf = append(buf, c)
		if c == '\n' || len(buf) >= longestLine {
			out = appendLine(out, buf, stream, now)
			buf = buf[:0]
		}
	}
	l.part[stream] = buf
	l.flush(out)
}

// close writes lines that never ended.
func (l *logWriter) close() error {
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

func (l *logWriter) flush(out []byte) {
	if len(out) == 0 || l.err != nil {
		return
	}
	if l.file == nil {
		f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			l.err = fmt.Errorf("open the log: %w", err)
			return
		}
		l.file = f
	}
	if _, err := l.file.Write(out); err != nil {
		l.err = fmt.Errorf("write the log: %w", err)
	}
}

func appendLine(out, line []byte, stream string, now time.Time) []byte {
	data, err := json.Marshal(LogLine{Log: string(line), Stream: stream, Time: now})
	if err != nil { // strings and a time always marshal
		return out
	}
	return append(append(out, data...), '\n')
}
