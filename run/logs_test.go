package run

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mica/run/record"
)

// logged gives a container whose log holds what write wrote.
func logged(t *testing.T, write func(*logWriter)) *record.Container {
	t.Helper()
	d, err := record.Open(filepath.Join(t.TempDir(), "containers"))
	if err != nil {
		t.Fatal(err)
	}
	c, lock, err := d.Create(&record.Config{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	l := newLogWriter(c.LogPath())
	write(l)
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func show(t *testing.T, c *record.Container, opt LogOptions) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	if err := Logs(context.Background(), c, opt, &out, &errs); err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String()
}

func TestLogsKeepBytesAndStreams(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	c := logged(t, func(l *logWriter) {
		l.write("stdout", []byte("one\ntw"))
		l.write("stderr", []byte("oops\n"))
		l.write("stdout", []byte("o\n"+long+"\nrest"))
	})
	out, errs := show(t, c, LogOptions{Tail: -1})
	if want := "one\ntwo\n" + long + "\nrest"; out != want {
		t.Errorf("output differs: %d bytes, want %d", len(out), len(want))
	}
	if errs != "oops\n" {
		t.Errorf("errors: %q", errs)
	}
}

func TestLogsTail(t *testing.T) {
	c := logged(t, func(l *logWriter) {
		for i := range 3000 {
			l.write("stdout", fmt.Appendf(nil, "line %d\n", i))
		}
	})
	for n, want := range map[int]string{0: "", 1: "line 2999\n", 2: "line 2998\nline 2999\n"} {
		if out, _ := show(t, c, LogOptions{Tail: n}); out != want {
			t.Errorf("tail %d: %q", n, out)
		}
	}
	if out, _ := show(t, c, LogOptions{Tail: 2500}); strings.Count(out, "\n") != 2500 || !strings.HasPrefix(out, "line 500\n") {
		t.Errorf("tail 2500 gives %d lines", strings.Count(out, "\n"))
	}
	if out, _ := show(t, c, LogOptions{Tail: 9999}); strings.Count(out, "\n") != 3000 {
		t.Errorf("tail of more than all gives %d lines", strings.Count(out, "\n"))
	}
}

func TestLogsByTime(t *testing.T) {
	c := logged(t, func(l *logWriter) { l.write("stdout", []byte("now\n")) })
	hour := time.Hour
	for _, opt := range []LogOptions{{Tail: -1, Since: time.Now().Add(hour)}, {Tail: -1, Until: time.Now().Add(-hour)}} {
		if out, _ := show(t, c, opt); out != "" {
			t.Errorf("%+v: %q", opt, out)
		}
	}
	out, _ := show(t, c, LogOptions{Tail: -1, Timestamps: true})
	stamp, rest, _ := strings.Cut(out, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || rest != "now\n" {
		t.Errorf("%q: %v", out, err)
	}
}
