package bench

import (
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"strings"
)

// walkWorkloads run the usual programs over the whole root filesystem.
func walkWorkloads() []Workload {
	programs := []struct {
		name, about string
		needs       []Tool
		pass        func(*env) (int, error)
	}{
		{"find", "find over the root; an operation is one name", []Tool{{"find", "findutils"}}, passFind},
		{"tar", "tar c of the root; an operation is one byte", []Tool{{"tar", "tar"}}, passTar},
		{"du", "du -a of the root; an operation is one name", []Tool{{"du", "coreutils"}}, passDu},
	}
	var all []Workload
	for _, cold := range []bool{false, true} {
		for _, p := range programs {
			w := Workload{
				Name: p.name, Group: "walk", About: p.about, Fixture: "root", Needs: p.needs, Quick: true, Cold: cold,
				pass: p.pass, answer: foundAnswer,
			}
			if cold {
				w.Name += "-cold"
				w.Group = "walk-cold"
			}
			all = append(all, w)
		}
	}
	return all
}

// pipe runs a program in the tree with its output going to w.
func pipe(e *env, w io.Writer, program string, args ...string) error {
	cmd := command(e.root, program, args...)
	var errs strings.Builder
	cmd.Stdout, cmd.Stderr = w, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w: %s", program, err, lastLines(errs.String(), 3))
	}
	return nil
}

func passFind(e *env) (int, error) {
	var l lineSum
	if err := pipe(e, &l, "find", "."); err != nil {
		return 0, err
	}
	e.found = fmt.Sprintf("%d names, %08x", l.lines, l.sum)
	return l.lines, nil
}

// passTar leaves the root directory itself out, whose time is the mount's own.
func passTar(e *env) (int, error) {
	top, err := os.ReadDir(e.root)
	if err != nil {
		return 0, fmt.Errorf("list root: %w", err)
	}
	args := []string{"--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-cf", "-", "--"}
	for _, d := range top {
		args = append(args, d.Name())
	}
	s := &countSum{Hash32: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	if err := pipe(e, s, "tar", args...); err != nil {
		return 0, err
	}
	e.found = fmt.Sprintf("%d bytes, %08x", s.n, s.Sum32())
	return s.n, nil
}

// passDu counts only: directories have sizes of their own on every filesystem.
func passDu(e *env) (int, error) {
	var l lineSum
	if err := pipe(e, &l, "du", "-a", "."); err != nil {
		return 0, err
	}
	e.found = fmt.Sprintf("%d names", l.lines)
	return l.lines, nil
}

// countSum is a checksum that counts.
type countSum struct {
	hash.Hash32
	n int
}

func (c *countSum) Write(b []byte) (int, error) {
	c.n += len(b)
	return c.Hash32.Write(b)
}
