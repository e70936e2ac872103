package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mica/internal/registrytest"
)

// TestBarLine fits the terminal.
func TestBarLine(t *testing.T) {
	o := &bar{what: "0123456789ab", size: 1 << 40, since: time.Now().Add(-time.Minute)}
	o.read.Store(1 << 39)
	for width := range 100 {
		line := o.line(width)
		if len(line) > width || width > 60 && !strings.Contains(line, "#.") {
			t.Errorf("in %d columns: %q", width, line)
		}
	}
	if line := (&bar{what: "loading", since: time.Now()}).line(79); line != "loading  0B" {
		t.Errorf("of unknown size: %q", line)
	}
}

// TestBarsStay pulls on a narrow terminal: the bars stay where they are, and nothing of them is left.
func TestBarsStay(t *testing.T) {
	reg := registrytest.New(t)
	c, shared := ownStore(t), newCLI(t)
	name := reg.Host() + "/app:1"
	shared.ok("tag", "base", name)
	defer shared.ok("rmi", name)
	shared.ok("push", name)
	seen := make(chan struct{})
	config := shared.ok("inspect", "-f", "{{.Id}}", name)
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		_, blob, ok := strings.Cut(r.URL.Path, "/blobs/sha256:")
		if !ok || strings.HasSuffix(config, blob) {
			return false
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-seen:
		case <-r.Context().Done():
		}
		data, _ := os.ReadFile(filepath.Join(shared.root, "blobs/sha256", blob))
		_, _ = w.Write(data)
		return true
	}
	tt := c.terminal(24, 40, "pull", name)
	until(t, "three drawings", func() bool { return strings.Count(tt.said(), "0B of ") >= 3 })
	if rows := screen(tt.said(), 40); strings.Count(strings.Join(rows, "\n"), "0B of ") != 1 {
		t.Errorf("the screen shows %q", rows)
	}
	close(seen)
	if code := tt.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if rows := screen(tt.said(), 40); strings.Contains(strings.Join(rows, "\n"), "0B of ") {
		t.Errorf("the screen shows %q", rows)
	}
}

var sequence = regexp.MustCompile("^\x1b\\[([0-9]*)([AJK])")

// screen is what a terminal shows that was told this, from its top.
func screen(said string, width int) []string {
	rows, row, col := [][]byte{nil}, 0, 0
	for len(said) > 0 {
		if m := sequence.FindStringSubmatch(said); m != nil {
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				row = max(0, row-n)
			case "J":
				rows = rows[:row+1]
				fallthrough
			case "K":
				rows[row] = rows[row][:min(col, len(rows[row]))]
			}
			said = said[len(m[0]):]
			continue
		}
		ch := said[0]
		said = said[1:]
		if col == width && ch != '\r' && ch != '\n' {
			row, col = row+1, 0
		}
		switch ch {
		case '\r':
			col = 0
		case '\n':
			row++
		}
		for row >= len(rows) {
			rows = append(rows, nil)
		}
		if ch != '\r' && ch != '\n' {
			rows[row] = append(rows[row][:min(col, len(rows[row]))], ch)
			col++
		}
	}
	var text []string
	for _, r := range rows {
		text = append(text, string(r))
	}
	return text
}
