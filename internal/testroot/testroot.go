// Package testroot makes a small root filesystem of the machine's own
// programs, for tests that need an image without a network.
package testroot

import (
	"archive/tar"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
)

// Programs are those that every test may count on, beside a shell's builtins.
var Programs = []string{
	"sh", "cat", "chmod", "chown", "cp", "date", "dd", "env", "false", "grep", "head", "id", "ln", "ls", "mkdir", "mv", "readlink", "rm", "seq",
	"sleep", "sort", "stat", "stty", "tail", "touch", "true", "tty", "uname", "wc",
}

// Passwd and Group are the account files of the root. Its user is nobody who may run the tests.
const (
	Passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\nuser:x:61000:61000::/home/user:/bin/sh\n"
	Group  = "root:x:0:\nweb:x:33:\naudio:x:29:web\nuser:x:61000:\n"
)

// entry is one file of the root.
type entry struct {
	mode    int64
	content []byte
	source  string // file to copy instead of content
	link    string
}

// Write writes the root as a tar archive.
func Write(w io.Writer) error {
	entries := map[string]entry{
		"etc/passwd": {mode: 0o644, content: []byte(Passwd)}, "etc/group": {mode: 0o644, content: []byte(Group)},
		"etc/os-release": {mode: 0o644, content: []byte("ID=mica-test\n")},
		"lower/file":     {mode: 0o644, content: []byte("lower\n")}, "lower/gone": {mode: 0o644, content: []byte("gone\n")},
		"usr/bin/dash-link": {link: "/bin/sh"},
	}
	for _, name := range Programs {
		p, err := exec.LookPath(name)
		if err != nil {
			return fmt.Errorf("find a program for the test root: %w", err)
		}
		if err := addProgram(entries, "bin/"+name, p); err != nil {
			return err
		}
	}
	dirs := map[string]int64{"tmp": 0o1777, "root": 0o700, "srv": 0o755, "home/user": 0o755, "var/data": 0o755}
	for name := range entries {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			if _, ok := dirs[d]; !ok {
				dirs[d] = 0o755
			}
		}
	}
	return writeTar(w, dirs, entries)
}

func writeTar(w io.Writer, dirs map[string]int64, entries map[string]entry) error {
	tw := tar.NewWriter(w)
	for _, d := range sorted(dirs) {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: dirs[d]}
		if d == "home/user" {
			h.Uid, h.Gid = 61000, 61000
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write the test root: %w", err)
		}
	}
	for _, name := range sorted(entries) {
		e := entries[name]
		if e.source != "" {
			var err error
			if e.content, err = os.ReadFile(e.source); err != nil {
				return fmt.Errorf("write the test root: %w", err)
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: e.mode, Size: int64(len(e.content))}
		if e.link != "" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: e.link, Mode: 0o777}
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write the test root: %w", err)
		}
		if _, err := tw.Write(e.content); err != nil {
			return fmt.Errorf("write the test root: %w", err)
		}
	}
	return tw.Close()
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// addProgram adds a program and the libraries that it needs.
func addProgram(entries map[string]entry, name, source string) error {
	if _, ok := entries[name]; ok {
		return nil
	}
	entries[name] = entry{mode: 0o755, source: source}
	f, err := elf.Open(source)
	if err != nil {
		return fmt.Errorf("read program %s: %w", source, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			return fmt.Errorf("read program %s: %w", source, err)
		}
		interp := string(b[:len(b)-1])
		entries[interp[1:]] = entry{mode: 0o755, source: interp}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read program %s: %w", source, err)
	}
	for _, lib := range libs {
		p, err := findLibrary(lib)
		if err != nil {
			return err
		}
		if err := addProgram(entries, "lib/"+lib, p); err != nil {
			return err
		}
	}
	return nil
}

// findLibrary finds a library where loaders look.
func findLibrary(name string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		found, err := filepath.Glob(filepath.Join(pattern, name))
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("find library %s for the test root", name)
}
