package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// command makes a command with a fixed environment: no user configuration may change what is measured.
func command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=gc.auto", "GIT_CONFIG_VALUE_1=0",
		"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@localhost", "GIT_AUTHOR_DATE=1700000000 +0000",
		"GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@localhost", "GIT_COMMITTER_DATE=1700000000 +0000",
	)
	return cmd
}

// output runs a command and returns its standard output; what it says on standard error goes into the error.
func output(cmd *exec.Cmd) (string, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", cmd.Args[0], err, lastLines(errs.String(), 3))
	}
	return string(out), nil
}

// lastLines is the end of a program's output, on one line.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// script runs several commands in one directory.
func script(dir string, lines ...[]string) error {
	for _, l := range lines {
		if _, err := output(command(dir, l[0], l[1:]...)); err != nil {
			return err
		}
	}
	return nil
}

// buildGit makes repo.git, a bare repository with the branches one and two, of which every second file differs, and as
// a layer a clone of it with branch one checked out.
func buildGit(dir string, t *task) (int, error) {
	work := filepath.Join(dir, "work")
	entries := sourceEntries(t.Scale.SourceFiles, t.Scale.SourceDirs)
	if err := writeTree(work, -1, entries); err != nil {
		return 0, err
	}
	commit := [][]string{{"git", "add", "-A"}, {"git", "commit", "-q", "-m", "a tree"}}
	if err := script(work, append([][]string{{"git", "init", "-q", "-b", "one"}}, commit...)...); err != nil {
		return 0, err
	}
	var changed []entry
	for i, e := range entries {
		if e.mode.IsRegular() && i%2 == 0 {
			if err := os.Remove(filepath.Join(work, e.path)); err != nil {
				return 0, fmt.Errorf("change source tree: %w", err)
			}
			e.size++
			changed = append(changed, e)
		}
	}
	if err := writeTree(work, -1, changed); err != nil {
		return 0, err
	}
	if err := script(work, append([][]string{{"git", "checkout", "-q", "-b", "two"}}, commit...)...); err != nil {
		return 0, err
	}
	if err := os.Mkdir(filepath.Join(dir, "l0"), 0o755); err != nil {
		return 0, fmt.Errorf("make layer: %w", err)
	}
	err := script(dir,
		[]string{"git", "clone", "-q", "--bare", "--no-hardlinks", "work", "repo.git"},
		[]string{"git", "clone", "-q", "--no-hardlinks", "-b", "one", "repo.git", "l0/repo"},
		[]string{"git", "-C", "l0/repo", "branch", "-q", "two", "origin/two"})
	if err != nil {
		return 0, err
	}
	return 1, removeTree(work)
}

// buildGo makes a Go module of many small packages, with no dependencies but the standard library.
func buildGo(dir string, t *task) (int, error) {
	root := filepath.Join(dir, "l0", "module")
	rng := rand.New(rand.NewPCG(3, 3))
	var imports, calls strings.Builder
	for i := range t.Scale.GoPackages {
		name := fmt.Sprintf("part%d", i)
		var src strings.Builder
		fmt.Fprintf(&src, "package %s\n\nimport (\n\t\"encoding/json\"\n\t\"strings\"\n)\n", name)
		for f := range 20 {
			fmt.Fprintf(&src, "\nfunc F%d(in map[string]int) string {\n\tin[\"k\"] += %d\n\tb, _ := json.Marshal(in)\n\treturn strings.Repeat(string(b), %d)\n}\n", f, rng.IntN(100), 1+f%3)
		}
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return 0, fmt.Errorf("make Go module: %w", err)
		}
		if err := os.WriteFile(filepath.Join(root, name, name+".go"), []byte(src.String()), 0o644); err != nil {
			return 0, fmt.Errorf("make Go module: %w", err)
		}
		fmt.Fprintf(&imports, "\t\"example.org/module/%s\"\n", name)
		fmt.Fprintf(&calls, "\tn += len(%s.F%d(map[string]int{}))\n", name, i%20)
	}
	main := fmt.Sprintf("package main\n\nimport (\n\t\"fmt\"\n%s)\n\nfunc main() {\n\tn := 0\n%s\tfmt.Println(n)\n}\n", imports.String(), calls.String())
	for name, content := range map[string]string{"go.mod": "module example.org/module\n\ngo 1.21\n", "main.go": main} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			return 0, fmt.Errorf("make Go module: %w", err)
		}
	}
	return 1, nil
}

// buildDpkg makes an empty dpkg root as a layer, and package.deb: the package that the task names, else one repacked
// from the files of an installed one.
func buildDpkg(dir string, t *task) (int, error) {
	admin := filepath.Join(dir, "l0", "root", "var", "lib", "dpkg")
	for _, d := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(admin, d), 0o755); err != nil {
			return 0, fmt.Errorf("make dpkg root: %w", err)
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(admin, f), nil, 0o644); err != nil {
			return 0, fmt.Errorf("make dpkg root: %w", err)
		}
	}
	deb := filepath.Join(dir, "package.deb")
	if t.Deb != "" {
		return 1, copyFile(t.Deb, deb, 0o644)
	}
	return 1, repack(dir, deb)
}

// repack builds a package from an installed one's files, without maintainer scripts.
func repack(dir, deb string) error {
	var failures []string
	for _, name := range []string{"perl-modules-5.40", "perl-modules-5.36", "git", "perl-base", "coreutils"} {
		list, err := output(command(dir, "dpkg", "-L", name))
		if err != nil {
			failures = append(failures, name)
			continue
		}
		return packFiles(dir, deb, strings.Fields(list))
	}
	return fmt.Errorf("find an installed package to repack: none of %s is there; name one with --deb FILE", strings.Join(failures, ", "))
}

func packFiles(dir, deb string, paths []string) error {
	tree := filepath.Join(dir, "package")
	for _, p := range paths {
		st, err := os.Lstat(p)
		if err != nil || !st.Mode().IsRegular() {
			continue // dpkg lists what the machine may have excluded from its installation
		}
		to := filepath.Join(tree, p)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("repack: %w", err)
		}
		if err := copyFile(p, to, st.Mode().Perm()|0o600); err != nil {
			return fmt.Errorf("repack: %w", err)
		}
	}
	control := "Package: bench-package\nVersion: 1\nArchitecture: all\nMaintainer: bench <bench@localhost>\nDescription: files of an installed package\n"
	if err := os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		return fmt.Errorf("repack: %w", err)
	}
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN", "control"), []byte(control), 0o644); err != nil {
		return fmt.Errorf("repack: %w", err)
	}
	if _, err := output(command(dir, "dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "-b", tree, deb)); err != nil {
		return err
	}
	return removeTree(tree)
}
