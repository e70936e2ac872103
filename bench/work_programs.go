package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sqliteWorkloads insert rows, a transaction each.
func sqliteWorkloads() []Workload {
	insert := func(sync string, rows func(*env) int) func(*env) (int, error) {
		return func(e *env) (int, error) {
			n := rows(e)
			var sql strings.Builder
			fmt.Fprintf(&sql, "PRAGMA synchronous=%s; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);\n", sync)
			for i := range n {
				fmt.Fprintf(&sql, "INSERT INTO t(v) VALUES('value %d');\n", i)
			}
			cmd := command(e.root, "sqlite3", "-batch", "new.db")
			cmd.Stdin = strings.NewReader(sql.String())
			_, err := output(cmd)
			return n, err
		}
	}
	count := func(e *env) (string, error) {
		out, err := output(command(e.root, "sqlite3", "-batch", "new.db", "PRAGMA integrity_check; SELECT count(*), sum(id), max(v) FROM t;"))
		return strings.Join(strings.Fields(out), " "), err
	}
	needs := []Tool{{"sqlite3", "sqlite3"}}
	return []Workload{
		{Name: "sqlite-fsync", Group: "programs", About: "sqlite inserts, each one durable; an operation is one insert", Needs: needs, Once: true, Quick: true,
			pass: insert("FULL", func(e *env) int { return e.t.Scale.SqliteSync }), answer: count},
		{Name: "sqlite-nosync", Group: "programs", About: "sqlite inserts without fsync; an operation is one insert", Needs: needs, Once: true, Quick: true,
			pass: insert("OFF", func(e *env) int { return e.t.Scale.SqliteFast }), answer: count},
	}
}

// gitWorkloads work on the repository of the fixture.
func gitWorkloads() []Workload {
	git := func(args ...string) func(*env) (int, error) {
		return func(e *env) (int, error) {
			_, err := output(command(e.path("repo"), "git", args...))
			return 1, err
		}
	}
	state := func(name string) func(*env) (string, error) {
		return func(e *env) (string, error) {
			head, err := output(command(e.path(name), "git", "rev-parse", "HEAD"))
			if err != nil {
				return "", err
			}
			changes, err := output(command(e.path(name), "git", "status", "--porcelain"))
			if err != nil {
				return "", err
			}
			sum, err := treeSum(e.path(name, "tree"))
			return fmt.Sprintf("%s, %d bytes of status, %s", strings.TrimSpace(head), len(changes), sum), err
		}
	}
	all := []Workload{
		{Name: "git-clone", About: "git clone of a local repository", answer: state("clone"),
			pass: func(e *env) (int, error) {
				_, err := output(command(e.root, "git", "clone", "-q", "--no-hardlinks", "-b", "one", filepath.Join(e.fix.dir, "repo.git"), "clone"))
				return 1, err
			}},
		{Name: "git-status", About: "git status in a lower work tree, after a first one", answer: state("repo"), pass: git("status", "--porcelain"),
			prepare: func(e *env) error {
				_, err := git("status", "--porcelain")(e)
				return err
			}},
		{Name: "git-checkout", About: "git checkout of a branch of which every second file differs", answer: state("repo"), pass: git("checkout", "-q", "two")},
	}
	for i := range all {
		w := &all[i]
		w.Group, w.Fixture, w.Needs, w.Mutates, w.Once, w.Quick = "programs", "git", []Tool{{"git", "git"}}, true, true, w.Name == "git-status"
	}
	return all
}

// buildWorkloads are a compiler and a package manager at work.
func buildWorkloads() []Workload {
	return []Workload{
		{Name: "go-build", Group: "programs", About: "go build of a module with an empty cache, all in the tree", Fixture: "go", Mutates: true, Once: true,
			Needs: []Tool{{"go", "golang-go"}}, prepare: makeGoDirs, pass: passGoBuild,
			answer: func(e *env) (string, error) { return output(command(e.root, e.path("module", "out"))) }},
		{Name: "dpkg-install", Group: "programs", About: "dpkg -i of one package", Fixture: "dpkg", Mutates: true, Once: true,
			Needs: []Tool{{"dpkg", "dpkg"}, {"dpkg-deb", "dpkg"}}, pass: passDpkg, answer: dpkgAnswer},
	}
}

func makeGoDirs(e *env) error {
	for _, d := range []string{"cache", "tmp", "path"} {
		if err := os.Mkdir(e.path(d), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

func passGoBuild(e *env) (int, error) {
	cmd := command(e.path("module"), "go", "build", "-o", "out", ".")
	cmd.Env = append(cmd.Env, "GOCACHE="+e.path("cache"), "GOTMPDIR="+e.path("tmp"), "TMPDIR="+e.path("tmp"), "GOPATH="+e.path("path"),
		"GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "CGO_ENABLED=0", "GOPROXY=off", "GOENV=off", "GOWORK=off")
	_, err := output(cmd)
	return 1, err
}

func passDpkg(e *env) (int, error) {
	_, err := output(command(e.tmp, "dpkg", "--root="+e.path("root"), "--force-not-root", "--force-depends", "--force-architecture",
		"--force-bad-path", "--no-triggers", "--log="+filepath.Join(e.tmp, "dpkg.log"), "-i", filepath.Join(e.fix.dir, "package.deb")))
	return 1, err
}

func dpkgAnswer(e *env) (string, error) {
	status, err := os.ReadFile(e.path("root", "var", "lib", "dpkg", "status"))
	if err != nil {
		return "", fmt.Errorf("look at what dpkg did: %w", err)
	}
	if !strings.Contains(string(status), "Status: install ok installed") {
		return "", errors.New("look at what dpkg did: the package is not installed")
	}
	return treeSum(e.path("root", "usr"))
}
