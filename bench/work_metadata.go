package bench

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// metadataWorkloads call the kernel directly, one call per name, over the whole root filesystem.
func metadataWorkloads() []Workload {
	both := []struct {
		name, about string
		prepare     func(*env) error
		pass        func(*env) (int, error)
	}{
		{"stat", "lstat of every file and directory of the root", listNames, passStat},
		{"open", "open and close of every file", listNames, passOpen},
		{"read", "open, read to the end and close of every file", listNames, passRead},
		{"readdir", "open, list and close of every directory", listNames, passReaddir},
		{"enoent", "search of commands and modules along a path: stat of names that are mostly not there", listAbsent, passAbsent},
	}
	var all []Workload
	for _, cold := range []bool{false, true} {
		for _, b := range both {
			w := Workload{
				Name: b.name, Group: "metadata", About: b.about, Fixture: "root", Quick: true, Cold: cold,
				prepare: b.prepare, pass: b.pass, answer: foundAnswer,
			}
			if cold {
				w.Name += "-cold"
				w.Group = "metadata-cold"
			}
			all = append(all, w)
		}
	}
	return all
}

func foundAnswer(e *env) (string, error) { return e.found, nil }

// listNames takes the names from the fixture, without touching the mounted tree.
func listNames(e *env) error {
	var err error
	if e.files, err = e.fix.list("files"); err != nil {
		return err
	}
	if e.dirs, err = e.fix.list("dirs"); err != nil {
		return err
	}
	for _, list := range [][]string{e.files, e.dirs} {
		for i, p := range list {
			list[i] = e.path(p)
		}
	}
	return nil
}

func passStat(e *env) (int, error) {
	var st unix.Stat_t
	var size int64
	for _, list := range [][]string{e.files, e.dirs} {
		for _, p := range list {
			if err := unix.Lstat(p, &st); err != nil {
				return 0, fmt.Errorf("stat %s: %w", p, err)
			}
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				size += st.Size
			}
		}
	}
	e.found = fmt.Sprintf("%d objects, %d bytes", len(e.files)+len(e.dirs), size)
	return len(e.files) + len(e.dirs), nil
}

func passOpen(e *env) (int, error) {
	for _, p := range e.files {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open %s: %w", p, err)
		}
		if err := unix.Close(fd); err != nil {
			return 0, fmt.Errorf("close %s: %w", p, err)
		}
	}
	e.found = fmt.Sprintf("%d files", len(e.files))
	return len(e.files), nil
}

func passRead(e *env) (int, error) {
	table := crc32.MakeTable(crc32.Castagnoli)
	buf := make([]byte, 128<<10)
	sum, total := uint32(0), 0
	for _, p := range e.files {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open %s: %w", p, err)
		}
		for {
			n, err := unix.Read(fd, buf)
			if err != nil {
				return 0, errors.Join(fmt.Errorf("read %s: %w", p, err), unix.Close(fd))
			}
			if n == 0 {
				break
			}
			sum = crc32.Update(sum, table, buf[:n])
			total += n
		}
		if err := unix.Close(fd); err != nil {
			return 0, fmt.Errorf("close %s: %w", p, err)
		}
	}
	e.found = fmt.Sprintf("%d bytes, %08x", total, sum)
	return len(e.files), nil
}

func passReaddir(e *env) (int, error) {
	buf := make([]byte, 32<<10)
	names, length := 0, 0
	var list []string
	for _, p := range e.dirs {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open %s: %w", p, err)
		}
		for {
			n, err := unix.ReadDirent(fd, buf)
			if err != nil {
				return 0, errors.Join(fmt.Errorf("list %s: %w", p, err), unix.Close(fd))
			}
			if n == 0 {
				break
			}
			_, _, list = unix.ParseDirent(buf[:n], -1, list[:0])
			names += len(list)
			for _, s := range list {
				length += len(s)
			}
		}
		if err := unix.Close(fd); err != nil {
			return 0, fmt.Errorf("close %s: %w", p, err)
		}
	}
	e.found = fmt.Sprintf("%d names of %d bytes", names, length)
	return len(e.dirs), nil
}

// listAbsent makes a search: commands along a PATH and modules along a PYTHONPATH, of which few exist.
func listAbsent(e *env) error {
	path := []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "root/.local/bin", "etc"}
	for i := range 100 {
		for _, dir := range path {
			e.absent = append(e.absent, e.path(dir, fmt.Sprintf("command%d", i)))
		}
	}
	modules := []string{"root", "usr/lib", "usr/lib/python3", "usr/lib/python3/dist-packages", "usr/share"}
	for i := range 100 {
		for _, dir := range modules {
			for _, suffix := range []string{"", ".so", ".abi3.so", ".py", ".pyc"} {
				e.absent = append(e.absent, e.path(dir, fmt.Sprintf("module%d%s", i, suffix)))
			}
		}
	}
	return nil
}

func passAbsent(e *env) (int, error) {
	var st unix.Stat_t
	there := 0
	for _, p := range e.absent {
		switch err := unix.Stat(p, &st); {
		case err == nil:
			there++
		case !errors.Is(err, unix.ENOENT):
			return 0, fmt.Errorf("stat %s: %w", p, err)
		}
	}
	e.found = fmt.Sprintf("%d names, %d there", len(e.absent), there)
	return len(e.absent), nil
}

// fileSum is the checksum of a file.
func fileSum(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", fmt.Errorf("sum file: %w", err)
	}
	defer f.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.Copy(sum, f)
	if err != nil {
		return "", fmt.Errorf("sum file: %w", err)
	}
	return fmt.Sprintf("%d bytes, %08x", n, sum.Sum32()), nil
}
