package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// containerWorkloads measure container tools as wholes, each with a store of its own over the same root filesystem.
func containerWorkloads() []Workload {
	tools := func(names ...string) []Tool {
		packages := map[string]string{"podman": "podman", "buildah": "buildah", "bwrap": "bubblewrap", "crun": "crun"}
		var t []Tool
		for _, n := range names {
			t = append(t, Tool{n, packages[n]})
		}
		return t
	}
	return []Workload{
		{Name: "run-true", Group: "containers", Kind: OnTool, Fixture: "container", Quick: true, About: "a container that runs true and goes away, warm",
			variants: []variant{
				{peer: "bwrap", needs: tools("bwrap"), setup: checkExit(bwrapRun), pass: passRun(bwrapRun)},
				{peer: "crun", needs: tools("crun"), setup: setupCrun, pass: passRun(crunRun)},
				{peer: "podman", needs: tools("podman"), setup: setupPodman, pass: passRun(podmanRun), teardown: dropPodman},
				{peer: "mica", setup: setupMica, pass: passRun(micaRun)},
			}},
		{Name: "commit", Group: "containers", Kind: OnTool, Fixture: "container", Once: true, About: "commit of a container with many changed files",
			variants: []variant{
				{peer: "buildah", needs: tools("buildah"), setup: setupBuildahCommit, pass: passBuildahCommit, answer: buildahAnswer("committed"), teardown: dropBuildah},
				{peer: "mica", setup: setupMicaCommit, pass: passMicaCommit, answer: micaAnswer("committed")},
			}},
		{Name: "build", Group: "containers", Kind: OnTool, Fixture: "container", Once: true, About: "a Dockerfile that copies many files and runs ten commands, without a cache",
			variants: []variant{
				{peer: "buildah", needs: tools("buildah"), setup: setupBuildahBuild, pass: passBuildahBuild, answer: buildahAnswer("built"), teardown: dropBuildah},
				{peer: "mica", setup: setupMicaBuild, pass: passMicaBuild, answer: micaAnswer("built")},
			}},
	}
}

// A runner is the command that runs /bin/NAME in a container.
type runner func(e *env, name string) *exec.Cmd

func passRun(run runner) func(*env) (int, error) {
	return func(e *env) (int, error) {
		_, err := output(run(e, "true"))
		return 1, err
	}
}

// checkExit makes sure that the program really runs: false must fail with 1, and true must not.
func checkExit(run runner) func(*env) error {
	return func(e *env) error {
		_, err := output(run(e, "false"))
		var exit *exec.ExitError
		switch {
		case err == nil:
			return errors.New("run false: want exit code 1, got 0")
		case !errors.As(err, &exit) || exit.ExitCode() != 1:
			return fmt.Errorf("run false: want exit code 1: %w", err)
		}
		e.found = "false exits with 1"
		return nil
	}
}

func bwrapRun(e *env, name string) *exec.Cmd {
	return command(e.tmp, "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--bind", e.fix.flat(), "/",
		"--proc", "/proc", "--dev", "/dev", "/bin/"+name)
}

func crunRun(e *env, name string) *exec.Cmd {
	return command(filepath.Join(e.tmp, name), "crun", "--cgroup-manager", "disabled", "--root", filepath.Join(e.tmp, "state"), "run", "bench-"+strconv.Itoa(os.Getpid()))
}

// setupCrun writes a bundle for each of the two programs.
func setupCrun(e *env) error {
	for _, name := range []string{"true", "false"} {
		bundle := filepath.Join(e.tmp, name)
		if err := os.Mkdir(bundle, 0o755); err != nil {
			return fmt.Errorf("make bundle: %w", err)
		}
		if _, err := output(command(bundle, "crun", "spec", "--rootless")); err != nil {
			return err
		}
		if err := editBundle(filepath.Join(bundle, "config.json"), e.fix.flat(), "/bin/"+name); err != nil {
			return err
		}
	}
	return checkExit(crunRun)(e)
}

func editBundle(file, root, program string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("edit bundle: %w", err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		return fmt.Errorf("edit bundle: %w", err)
	}
	c["root"] = map[string]any{"path": root, "readonly": true}
	process, ok := c["process"].(map[string]any)
	if !ok {
		return errors.New("edit bundle: it has no process")
	}
	process["terminal"], process["args"] = false, []string{program}
	if raw, err = json.Marshal(c); err != nil {
		return fmt.Errorf("edit bundle: %w", err)
	}
	return os.WriteFile(file, raw, 0o644)
}

// storeTool makes a command of a tool that keeps its store in the scratch directory.
func storeTool(e *env, program string, args ...string) *exec.Cmd {
	cmd := command(e.tmp, program, append([]string{"--root", filepath.Join(e.tmp, "store"), "--runroot", filepath.Join(e.tmp, "run")}, args...)...)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+e.tmp)
	return cmd
}

func podmanRun(e *env, name string) *exec.Cmd {
	return storeTool(e, "podman", "run", "--rm", "--cgroups=disabled", "--network", "host", "bench", "/bin/"+name)
}

func setupPodman(e *env) error {
	if _, err := output(storeTool(e, "podman", "import", filepath.Join(e.fix.dir, "root.tar"), "bench")); err != nil {
		return err
	}
	return checkExit(podmanRun)(e)
}

func dropPodman(e *env) {
	// The store holds files of subordinate ids, which only the tool itself can remove. Were it to fail, the removal
	// of the scratch directory says so.
	_, _ = output(storeTool(e, "podman", "unshare", "rm", "-rf", filepath.Join(e.tmp, "store")))
}

func dropBuildah(e *env) {
	_, _ = output(storeTool(e, "buildah", "unshare", "rm", "-rf", filepath.Join(e.tmp, "store"))) // as for podman
}

// micaCommand makes a command of the binary under test, with a store in the scratch directory.
func micaCommand(e *env, args ...string) *exec.Cmd {
	cmd := command(e.tmp, e.t.Mica, args...)
	cmd.Env = append(cmd.Env, "XDG_DATA_HOME="+filepath.Join(e.tmp, "data"), "XDG_RUNTIME_DIR="+e.tmp)
	return cmd
}

func micaRun(e *env, name string) *exec.Cmd {
	return micaCommand(e, "run", "--rm", "bench", "/bin/"+name)
}

func setupMica(e *env) error {
	if _, err := output(micaCommand(e, "import", filepath.Join(e.fix.dir, "root.tar"), "bench")); err != nil {
		return err
	}
	return checkExit(micaRun)(e)
}

func setupMicaCommit(e *env) error {
	if err := setupMica(e); err != nil {
		return err
	}
	_, err := output(micaCommand(e, "run", "--name", "changed", "-v", e.t.Mica+":/run/tool:ro", "bench",
		"/run/tool", "bench", FilesCommand, "make", strconv.Itoa(e.t.Scale.CommitFiles), "/data/new"))
	return err
}

func passMicaCommit(e *env) (int, error) {
	_, err := output(micaCommand(e, "commit", "changed", "committed"))
	return e.t.Scale.CommitFiles, err
}

// micaAnswer sums the new files of an image.
func micaAnswer(image string) func(*env) (string, error) {
	return func(e *env) (string, error) {
		out, err := output(micaCommand(e, "run", "--rm", "-v", e.t.Mica+":/run/tool:ro", image, "/run/tool", "bench", FilesCommand, "sum", "/data/new"))
		return strings.TrimSpace(out), err
	}
}

// inBuildah runs this binary's file command on the tree of a working container.
func inBuildah(e *env, container string, args ...string) (string, error) {
	inner := `m=$(buildah --root "$1" --runroot "$2" mount "$3") || exit 1; shift 3; tool=$1; shift; exec "$tool" bench ` + FilesCommand + ` "$@" "$m/data/new"`
	argv := append([]string{"unshare", "sh", "-c", inner, "sh", filepath.Join(e.tmp, "store"), filepath.Join(e.tmp, "run"), container, e.t.Mica}, args...)
	out, err := output(storeTool(e, "buildah", argv...))
	return strings.TrimSpace(out), err
}

// importBuildah makes the image bench.
func importBuildah(e *env) error {
	if _, err := output(storeTool(e, "buildah", "from", "--name", "changed", "scratch")); err != nil {
		return err
	}
	if _, err := output(storeTool(e, "buildah", "add", "changed", filepath.Join(e.fix.dir, "root.tar"), "/")); err != nil {
		return err
	}
	_, err := output(storeTool(e, "buildah", "commit", "-q", "--rm", "changed", "bench"))
	return err
}

func setupBuildahCommit(e *env) error {
	if err := importBuildah(e); err != nil {
		return err
	}
	if _, err := output(storeTool(e, "buildah", "from", "--name", "changed", "--pull-never", "bench")); err != nil {
		return err
	}
	_, err := inBuildah(e, "changed", "make", strconv.Itoa(e.t.Scale.CommitFiles))
	return err
}

func passBuildahCommit(e *env) (int, error) {
	_, err := output(storeTool(e, "buildah", "commit", "-q", "changed", "committed"))
	return e.t.Scale.CommitFiles, err
}

// buildahAnswer is micaAnswer for buildah.
func buildahAnswer(image string) func(*env) (string, error) {
	return func(e *env) (string, error) {
		if _, err := output(storeTool(e, "buildah", "from", "--name", "look", "--pull-never", image)); err != nil {
			return "", err
		}
		return inBuildah(e, "look", "sum")
	}
}

// buildCommands is how many commands the Dockerfile runs.
const buildCommands = 10

// makeContext makes the directory that is built.
func makeContext(e *env) error {
	dir := filepath.Join(e.tmp, "context")
	if err := Files(io.Discard, []string{"make", strconv.Itoa(e.t.Scale.CommitFiles), filepath.Join(dir, "new")}); err != nil {
		return err
	}
	text := "FROM bench\nCOPY new /data/new\n"
	for range buildCommands {
		text += "RUN [\"/bin/true\"]\n"
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
}

func setupMicaBuild(e *env) error {
	if err := setupMica(e); err != nil {
		return err
	}
	return makeContext(e)
}

func passMicaBuild(e *env) (int, error) {
	_, err := output(micaCommand(e, "build", "-q", "--no-cache", "-t", "built", filepath.Join(e.tmp, "context")))
	return buildCommands + 1, err
}

func setupBuildahBuild(e *env) error {
	if err := importBuildah(e); err != nil {
		return err
	}
	return makeContext(e)
}

// passBuildahBuild has layers kept, as mica keeps them; in a chroot, since not every machine lets a plain user's crun run.
func passBuildahBuild(e *env) (int, error) {
	_, err := output(storeTool(e, "buildah", "bud", "-q", "--layers", "--no-cache", "--pull-never", "--isolation", "chroot", "-t", "built", filepath.Join(e.tmp, "context")))
	return buildCommands + 1, err
}
