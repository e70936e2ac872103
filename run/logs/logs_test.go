package logs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mica/run/record"
)

// logged gives a container whose log holds what write wrote.
func logged(t *testing.T, write func(*Writer)) *record.Container {
	t.Helper()
	return loggedWith(t, record.Log{}, write)
}

func loggedWith(t *testing.T, opt record.Log, write func(*Writer)) *record.Container {
	t.Helper()
	d, err := record.Open(filepath.Join(t.TempDir(), "containers"))
	if err != nil {
		t.Fatal(err)
	}
	c, lock, err := d.Create(&record.Config{Name: "web", Host: record.HostConfig{Log: opt}})
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	l := NewWriter(c.LogPath(), opt)
	write(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func show(t *testing.T, c *record.Container, opt Options) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	if err := Show(context.Background(), c, opt, &out, &errs); err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String()
}

func TestLogsKeepBytesAndStreams(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	c := logged(t, func(l *Writer) {
		l.Add("stdout", []byte("one\ntw"))
		l.Add("stderr", []byte("oops\n"))
		l.Add("stdout", []byte("o\n"+long+"\nrest"))
	})
	out, errs := show(t, c, Options{Tail: -1})
	if want := "one\ntwo\n" + long + "\nrest"; out != want {
		t.Errorf("output differs: %d bytes, want %d", len(out), len(want))
	}
	if errs != "oops\n" {
		t.Errorf("errors: %q", errs)
	}
}

func TestLogsTail(t *testing.T) {
	c := logged(t, func(l *Writer) {
		for i := range 3000 {
			l.Add("stdout", fmt.Appendf(nil, "line %d\n", i))
		}
	})
	for n, want := range map[int]string{0: "", 1: "line 2999\n", 2: "line 2998\nline 2999\n"} {
		if out, _ := show(t, c, Options{Tail: n}); out != want {
			t.Errorf("tail %d: %q", n, out)
		}
	}
	if out, _ := show(t, c, Options{Tail: 2500}); strings.Count(out, "\n") != 2500 || !strings.HasPrefix(out, "line 500\n") {
		t.Errorf("tail 2500 gives %d lines", strings.Count(out, "\n"))
	}
	if out, _ := show(t, c, Options{Tail: 9999}); strings.Count(out, "\n") != 3000 {
		t.Errorf("tail of more than all gives %d lines", strings.Count(out, "\n"))
	}
}

func TestLogsByTime(t *testing.T) {
	c := logged(t, func(l *Writer) { l.Add("stdout", []byte("now\n")) })
	hour := time.Hour
	for _, opt := range []Options{{Tail: -1, Since: time.Now().Add(hour)}, {Tail: -1, Until: time.Now().Add(-hour)}} {
		if out, _ := show(t, c, opt); out != "" {
			t.Errorf("%+v: %q", opt, out)
		}
	}
	out, _ := show(t, c, Options{Tail: -1, Timestamps: true})
	stamp, rest, _ := strings.Cut(out, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || rest != "now\n" {
		t.Errorf("%q: %v", out, err)
	}
}

// TestLogsLimited keeps the last lines, in files of bounded size, and a reader that looks often enough sees all.
func TestLogsLimited(t *testing.T) {
	const lines = 400
	for _, files := range []int{0, 1, 2, 4} {
		opt := record.Log{MaxSize: 2000, Files: files}
		var all, seen strings.Builder
		reader := &printer{opt: Options{Tail: -1}, files: max(files, 1), out: map[string]io.Writer{"stdout": &seen}}
		c := loggedWith(t, opt, func(l *Writer) {
			for i := range lines {
				line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%37))
				all.WriteString(line)
				l.Add("stdout", []byte(line))
				if i%5 == 0 {
					if err := reader.look(l.path); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := reader.look(l.path); err != nil {
				t.Fatal(err)
			}
		})
		reader.close()
		if seen.String() != all.String() {
			t.Errorf("%d files: the reader saw %d bytes of %d", files, seen.Len(), all.Len())
		}
		names, err := filepath.Glob(c.LogPath() + "*")
		if err != nil || len(names) != max(files, 1) {
			t.Errorf("%d files: there are %q, %v", files, names, err)
		}
		for _, name := range names {
			if st, err := os.Stat(name); err != nil || st.Size() > opt.MaxSize {
				t.Errorf("%s has %d bytes, %v", name, st.Size(), err)
			}
		}
		kept, _ := show(t, c, Options{Tail: -1})
		if kept == "" || !strings.HasSuffix(all.String(), kept) || !strings.HasPrefix(kept, "line ") {
			t.Errorf("%d files: kept %q", files, kept)
		}
		if n := strings.Count(kept, "\n"); n < max(files, 1)*10 {
			t.Errorf("%d files: %d lines are kept", files, n)
		}
		whole := strings.SplitAfter(strings.TrimSuffix(kept, "\n"), "\n")
		for n := 0; n <= len(whole)+1; n++ {
			got, _ := show(t, c, Options{Tail: n})
			if want := strings.Join(whole[max(len(whole)-n, 0):], ""); strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") {
				t.Fatalf("%d files: the last %d lines are %q, want %q", files, n, got, want)
			}
		}
	}
}

// TestLogsLimitedInBulk: the size of a file is bounded also where much comes at once.
func TestLogsLimitedInBulk(t *testing.T) {
	opt := record.Log{MaxSize: 2000, Files: 2}
	var all strings.Builder
	for i := range 5000 {
		fmt.Fprintln(&all, i)
	}
	c := loggedWith(t, opt, func(l *Writer) { l.Add("stdout", []byte(all.String())) })
	names, err := filepath.Glob(c.LogPath() + "*")
	if err != nil || len(names) != 2 {
		t.Errorf("there are %q, %v", names, err)
	}
	for _, name := range names {
		if st, err := os.Stat(name); err != nil || st.Size() > opt.MaxSize || name != c.LogPath() && st.Size() < opt.MaxSize/2 {
			t.Errorf("%s has %d bytes, %v", name, st.Size(), err)
		}
	}
	if kept, _ := show(t, c, Options{Tail: -1}); !strings.HasSuffix(all.String(), kept) || kept == "" {
		t.Errorf("kept: %q", kept)
	}
}

// TestLogsWithGap: while the names of the files move on, none is left out.
func TestLogsWithGap(t *testing.T) {
	opt := record.Log{MaxSize: 300, Files: 4}
	c := loggedWith(t, opt, func(l *Writer) {
		for i := range 12 {
			l.Add("stdout", []byte(fmt.Sprintln("line", i)))
		}
	})
	before, _ := show(t, c, Options{Tail: -1})
	if err := os.Rename(c.LogPath()+".1", c.LogPath()+".moving"); err != nil {
		t.Fatal(err)
	}
	during, _ := show(t, c, Options{Tail: -1})
	if lost := strings.Count(before, "\n") - strings.Count(during, "\n"); lost < 1 || lost > 4 || !strings.HasPrefix(during, before[:strings.Index(before, "\n")+1]) {
		t.Errorf("before: %q, without one file: %q", before, during)
	}
}
