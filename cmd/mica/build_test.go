package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// buildContext makes a context of files, by name; a name that ends in a slash is a directory, a content that begins with "-> " a symlink.
func buildContext(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(content, "-> ")
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// built builds and gives the image's ID.
func (c *cli) built(args ...string) string {
	c.t.Helper()
	id := c.ok(append([]string{"build", "-q"}, args...)...)
	c.t.Cleanup(func() { c.run("rmi", "-f", id) })
	return id
}

// TestBuild goes through the instructions once, and looks at what comes of them.
func TestBuild(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{
		"Dockerfile": `# syntax=docker/dockerfile:1
ARG BASE=base
FROM ${BASE} AS made
ARG WHO=nobody
ARG LATE
ENV GREETING="hello ${WHO}" PLAIN=a\ b
WORKDIR /app
WORKDIR sub
COPY src/ ./
RUN echo "$GREETING $LATE" > said && pwd > where
RUN <<END
echo one
echo two
END

FROM base AS unused
RUN exit 9

FROM base
ARG FOR=us
COPY --from=made /app/sub /out/
COPY --from=0 --chown=33:34 --chmod=640 /app/sub/said /owned/deep/said
COPY <<"A" <<B /inline/
$HOME
A
made for $FOR
B
USER 33
WORKDIR /home/mine
ENTRYPOINT ["cat"]
CMD ["/out/said"]
EXPOSE 80 90-91/udp
VOLUME /data
LABEL a=b "c d"="e f"
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s CMD true
ONBUILD COPY . /on
`,
		"src/a": "a\n", "src/d/b": "b\n", "src/link": "-> a",
	})
	id := c.built("-t", "built", "--build-arg", "WHO=world", "--build-arg", "LATE=now", "--label", "from=outside", dir)
	c.remove("shows")
	if got := c.ok("run", "--rm", "built"); got != "hello world now" {
		t.Errorf("it says %q", got)
	}
	got := c.ok("run", "--rm", "--entrypoint", "sh", "built", "-c",
		"cd /; ls -A out out/d; readlink out/link; cat out/where; stat -c '%a %u:%g' owned owned/deep/said home/mine; cat inline/A inline/B; id -u; ls app || true")
	want := "out:\na\nd\nlink\nsaid\nwhere\n\nout/d:\nb\na\n/app/sub\n755 33:34\n640 33:34\n755 33:33\n$HOME\nmade for us"
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\n33") {
		t.Errorf("it holds %q", got)
	}
	format := `{{.Id}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.ExposedPorts}} {{.Config.Volumes}} ` +
		`{{.Config.Labels}} {{.Config.StopSignal}} {{.Config.Healthcheck.Test}} {{.Config.OnBuild}}`
	want = id + ` 33 /home/mine [cat] [/out/said] map[80/tcp:{} 90/udp:{} 91/udp:{}] map[/data:{}] map[a:b c d:e f from:outside] SIGQUIT [CMD-SHELL true] [COPY . /on]`
	if got := c.ok("inspect", "-f", format, "built"); got != want {
		t.Errorf("its configuration is\n%s\nwant\n%s", got, want)
	}
	history := c.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}", "built")
	if !strings.HasPrefix(history, "LABEL from=outside\nONBUILD COPY . /on\nHEALTHCHECK --interval=5s CMD-SHELL true\n") ||
		!strings.Contains(history, "\nCOPY --from=made /app/sub /out/\n") {
		t.Errorf("its history is\n%s", history)
	}
	next := buildContext(t, map[string]string{"Dockerfile": "FROM built\nUSER root\n", "file": "triggered"})
	c.built("-t", "next", next)
	if got := c.ok("run", "--rm", "next", "/on/file"); got != "triggered" {
		t.Errorf("ONBUILD: %q", got)
	}
	if left := c.ok("ps", "-aq", "--filter", "ancestor=base"); strings.Contains(left, id) {
		t.Errorf("containers are left: %s", left)
	}
}

// TestBuildCache does again what has changed, and no more.
func TestBuildCache(t *testing.T) {
	c := newCLI(t)
	files := map[string]string{
		"Dockerfile":    "FROM base AS a\nCOPY used /x/\nRUN cat /proc/sys/kernel/random/uuid > /x/made\nARG V\nRUN echo $V; echo x > /y\n\nFROM base\nCOPY --from=a /y /y\nCOPY --from=a /x/made /made\n",
		".dockerignore": "ignored\n", "used": "1", "ignored": "1",
	}
	dir := buildContext(t, files)
	first := c.built(dir)
	for name, change := range map[string]func() error{
		"nothing": func() error { return nil },
		"times":   func() error { return os.Chtimes(filepath.Join(dir, "used"), time.Now(), time.Now().Add(time.Hour)) },
		"ignored": func() error { return os.WriteFile(filepath.Join(dir, "ignored"), []byte("2"), 0o644) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if id := c.built(dir); id != first {
			t.Errorf("%s: another image", name)
		}
	}
	if id := c.built("--build-arg", "V=2", dir); id != first {
		t.Error("what the first stage's end does differently does not change what is copied of it")
	}
	if r := c.run("build", "--build-arg", "V=2", dir); !strings.Contains(r.stderr, "RUN echo $V; echo x > /y  (cached)") || !strings.Contains(r.stderr, "(cached)") {
		t.Errorf("the same argument again: %s", r.stderr)
	}
	if r := c.run("build", "--build-arg", "V=3", dir); strings.Contains(r.stderr, "> /y  (cached)") || !strings.Contains(r.stderr, "> /x/made  (cached)") {
		t.Errorf("another argument: %s", r.stderr)
	}
	for _, filter := range []string{"a", "0", "other,A"} {
		if r := c.run("build", "--no-cache-filter", filter, dir); strings.Contains(r.stderr, "> /x/made  (cached)") || strings.Contains(r.stderr, "COPY --from=a /x/made /made  (cached)") ||
			!strings.Contains(r.stderr, "COPY --from=a /y /y  (cached)") {
			t.Errorf("all but stage %s from the cache: %s", filter, r.stderr)
		}
	}
	first = c.built(dir)
	seen := map[string]bool{first: true}
	for name, args := range map[string][]string{"content": nil, "mode": nil, "no cache": {"--no-cache"}} {
		var err error
		switch name {
		case "content":
			err = os.WriteFile(filepath.Join(dir, "used"), []byte("2"), 0o644)
		case "mode":
			err = os.Chmod(filepath.Join(dir, "used"), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		id := c.built(append(args, dir)...)
		if seen[id] {
			t.Errorf("%s: the same image", name)
		}
		seen[id] = true
	}
	for _, line := range strings.Split(c.ok("images", "-q", "--no-trunc"), "\n") {
		if seen[line] {
			t.Errorf("images shows a step: %s", line)
		}
	}
	if all := c.ok("images", "-aq", "--no-trunc"); !strings.Contains(all, first) {
		t.Errorf("images -a shows no step:\n%s", all)
	}
	c.ok("builder", "prune", "-af", "--filter", "until=24h")
	if all := c.ok("images", "-aq", "--no-trunc"); !strings.Contains(all, first) {
		t.Errorf("after the prune of what is a day old a step of now is gone:\n%s", all)
	}
	c.ok("builder", "prune", "-f", "--filter", "until=0s")
	if all := c.ok("images", "-aq", "--no-trunc"); strings.Contains(all, first) {
		t.Errorf("after the prune there are still steps:\n%s", all)
	}
	c.ok("system", "check")
}

// TestBuildStageOnStage: a stage has the arguments of the one that it begins with, and carries its triggers out, once.
func TestBuildStageOnStage(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{"Dockerfile": `ARG OUTER=outer
FROM base AS a
ARG V=default
ARG OUTER
ARG NEVER
ONBUILD RUN echo triggered $V >> /said
FROM a AS b
ARG V
ENV E=$V-$OUTER-$NEVER
FROM b AS c
RUN echo $V $E >> /said
FROM base
COPY --from=c /said /said
RUN echo "${V-none}" >> /said
`})
	said := func(args ...string) string {
		t.Helper()
		return c.ok("run", "--rm", c.built(append(args, dir)...), "cat", "/said")
	}
	if got := said(); got != "triggered default\ndefault default-outer-\nnone" {
		t.Errorf("it said %q", got)
	}
	if got := said("--build-arg", "V=given"); got != "triggered given\ngiven given-outer-\nnone" {
		t.Errorf("with another argument it said %q", got)
	}
	for stage, want := range map[string]string{"a": "[RUN echo triggered $V >> /said]", "b": "[]", "c": "[]"} {
		if got := c.ok("inspect", "-f", "{{.Config.OnBuild}}", c.built("--target", stage, dir)); got != want {
			t.Errorf("the triggers of stage %s are %s, want %s", stage, got, want)
		}
	}
}

// TestBuildReproducible: with a time given, the same build gives the same image anywhere.
func TestBuildReproducible(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{"Dockerfile": "FROM base\nWORKDIR /made\nCOPY a b/c/\nENV x=y\n", "a": "a"})
	if err := os.Chtimes(filepath.Join(dir, "a"), time.Unix(5, 0), time.Unix(5, 0)); err != nil {
		t.Fatal(err)
	}
	first := c.built("--no-cache", "--timestamp", "1000000000", dir)
	if again := c.built("--no-cache", "--timestamp", "1000000000", dir); again != first {
		t.Errorf("%s and %s", first, again)
	}
	if got := c.ok("inspect", "-f", "{{.Created}}", first); !strings.HasPrefix(got, "2001-09-09T01:46:40") {
		t.Errorf("created %s", got)
	}
}

// TestBuildMounts shows commands what no layer is to hold.
func TestBuildMounts(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{
		"Dockerfile": `FROM base AS lib
RUN mkdir /lib1 && echo lib > /lib1/f
FROM base
RUN --mount=type=secret,id=s --mount=type=secret,id=v,env=TOKEN --mount=type=bind,from=lib,source=/lib1,target=/l --mount=type=tmpfs,target=/t,relabel=shared \
    --mount=type=bind,target=/ctx --mount=type=bind,source=data,target=/rw,rw \
    cat /run/secrets/s /l/f /ctx/data/f > /seen; echo $TOKEN >> /seen; echo new > /rw/new && cat /rw/new >> /seen; touch /t/x; ! touch /ctx/x 2>/dev/null
RUN --mount=type=cache,target=/cache,id=of-TestBuildMounts ls /cache > /before; touch /cache/kept
RUN --mount=type=secret,id=none,z test ! -e /run/secrets/none
`,
		"data/f": "data\n", "secret": "secret\n",
	})
	c.env = append(c.env, "VALUE=of-env")
	args := []string{"--secret", "id=s,src=" + filepath.Join(dir, "secret"), "--secret", "id=v,env=VALUE", "-t", "mounted", dir}
	c.built(args...)
	got := c.ok("run", "--rm", "mounted", "sh", "-c", "cat /seen /before; ls -d /l /t /ctx /rw /cache /run/secrets 2>/dev/null; true")
	if got != "secret\nlib\ndata\nof-env\nnew" {
		t.Errorf("the image holds %q", got)
	}
	c.built(append([]string{"--no-cache"}, args...)...)
	if got := c.ok("run", "--rm", "mounted", "cat", "/before"); got != "kept" {
		t.Errorf("the second build found %q in the cache", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "data/new")); err == nil {
		t.Error("a command wrote into the context")
	}
	if history := c.ok("history", "--no-trunc", "mounted") + c.ok("inspect", "mounted"); strings.Contains(history, "of-env") {
		t.Errorf("a secret is told:\n%s", history)
	}
	c.fails(125, "secret must is missing", "build", "-q", "--no-cache", buildContext(t, map[string]string{"Dockerfile": "FROM base\nRUN --mount=type=secret,id=must,required true\n"}))
	c.ok("builder", "prune", "-af")
	if left := c.ok("volume", "ls", "-q"); strings.Contains(left, "build-cache") {
		t.Errorf("caches are left: %s", left)
	}
}

// TestBuildMountsDecide: another mount is another step, and what the ignore file leaves out is not seen.
func TestBuildMountsDecide(t *testing.T) {
	c := newCLI(t)
	seen := make(map[string]string)
	for _, line := range []string{
		"--mount=type=bind,source=d,target=/m", "--mount=type=bind,source=d,target=/n", "--mount=type=bind,source=d,target=/m,rw", "--mount=type=tmpfs,target=/m",
		"--mount=type=cache,target=/m,id=decide-a", "--mount=type=cache,target=/m,id=decide-b", "--mount=type=bind,from=base,source=/etc,target=/m",
		"--mount=type=bind,from=base,source=/etc/passwd,target=/m",
	} {
		dir := buildContext(t, map[string]string{"Dockerfile": "FROM base\nRUN " + line + " ls /m /n > /seen 2>/dev/null; true\n", "d/f": "", "d/ignored": "", ".dockerignore": "d/ignored\n"})
		id := c.built(dir)
		if before, again := seen[id]; again {
			t.Errorf("%s is the same as %s", line, before)
		}
		seen[id] = line
		if got := c.ok("run", "--rm", id, "cat", "/seen"); strings.Contains(got, "ignored") {
			t.Errorf("%s: the command saw %q", line, got)
		}
	}
	c.ok("volume", "create", "build-cache-mine")
	c.ok("builder", "prune", "-af")
	if left := c.ok("volume", "ls", "-q", "--filter", "name=build-cache"); left != "build-cache-mine" {
		t.Errorf("after the prune there are the volumes %q", left)
	}
	c.ok("volume", "rm", "build-cache-mine")
	c.fails(125, "ignored", "build", "-q", buildContext(t, map[string]string{
		"Dockerfile": "FROM base\nRUN --mount=type=bind,source=ignored,target=/m cat /m\n", "ignored": "", ".dockerignore": "ignored\n"}))
	given := buildContext(t, map[string]string{"Dockerfile": "FROM base\nRUN cat /given/f > /seen\n"})
	for _, content := range []string{"one", "two"} {
		id := c.built("-v", buildContext(t, map[string]string{"f": content})+":/given", given)
		if got := c.ok("run", "--rm", id, "cat", "/seen"); got != content {
			t.Errorf("with another volume the command saw %q", got)
		}
	}
}

// TestBuildHeredocs runs scripts in each spelling.
func TestBuildHeredocs(t *testing.T) {
	c := newCLI(t)
	c.built("-t", "heredocs", buildContext(t, map[string]string{"Dockerfile": "FROM base\n" +
		"RUN <<A\necho plain >> /said\nA\nRUN <<-B\n\techo dashed >> /said\n\tB\nRUN <<\"C\"\necho quoted >> /said\nC\nRUN <<'D'\necho single >> /said\nD\n" +
		"RUN cat <<E >> /said\nfed\nE\nRUN cat 3<<X /dev/fd/3 - <<Y >> /said\nthree\nX\nnought\nY\nRUN <<F\n#!/bin/sh -e\necho itself >> /said\nF\nCOPY <<-G /file\n\tcopied\nG\n"}))
	if got := c.ok("run", "--rm", "heredocs", "cat", "/said", "/file"); got != "plain\ndashed\nquoted\nsingle\nfed\nthree\nnought\nitself\ncopied" {
		t.Errorf("they said %q", got)
	}
}

// TestBuildGit takes the context from a repository, and what an ADD names from no repository of this machine.
func TestBuildGit(t *testing.T) {
	c := newCLI(t)
	repo := buildContext(t, map[string]string{"sub/Dockerfile": "FROM base\nCOPY f /f\n", "sub/f": "committed"})
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=n", "-c", "user.email=e@example.com"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "first")
	address := "file://" + repo + "/.git"
	for _, ref := range []string{"main", git("rev-parse", "HEAD"), git("rev-parse", "--short=8", "HEAD")} {
		id := c.built(address + "#" + ref + ":sub")
		if got := c.ok("run", "--rm", id, "cat", "/f"); got != "committed" {
			t.Errorf("%s: %q", ref, got)
		}
	}
	c.fails(125, "there is no directory", "build", "-q", address+"#main:none")
	outside := t.TempDir()
	if r := c.run("build", "-q", address+"#main:../../../../../../.."+outside); r.code != 125 {
		t.Errorf("a directory outside of the repository: %+v", r)
	}
	if r := c.run("build", "-q", buildContext(t, map[string]string{"Dockerfile": "FROM base\nADD " + address + " /stolen\n"})); r.code != 125 || !strings.Contains(r.stderr, "not allowed") {
		t.Errorf("a Dockerfile takes a repository of this machine: %+v", r)
	}
}

// TestBuildBounds: an archive from elsewhere cannot have files of the machine read.
func TestBuildBounds(t *testing.T) {
	c := newCLI(t)
	for _, h := range []tar.Header{
		{Name: "Dockerfile", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "Dockerfile", Typeflag: tar.TypeFifo, Mode: 0o644},
	} {
		var archive bytes.Buffer
		tw := tar.NewWriter(&archive)
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		tw.Close()
		if r := c.runInput(archive.String(), "build", "-"); r.code != 125 || strings.Contains(r.stderr, "root") || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("a Dockerfile of type %c: %+v", h.Typeflag, r)
		}
	}
}

// TestBuildScratch makes images with no files, and goes on from them.
func TestBuildScratch(t *testing.T) {
	c := newCLI(t)
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for dockerfile, want := range map[string]string{
		"FROM scratch\n":                                         "[" + path + "] [] map[]: ",
		"FROM scratch\nLABEL a=b\n":                              "[" + path + "] [] map[a:b]: ",
		"FROM scratch\nENV A=b\nCMD [\"/x\"]\n":                  "[" + path + " A=b] [/x] map[]: ",
		"FROM scratch AS a\nFROM a\nCMD [\"/x\"]\n":              "[" + path + "] [/x] map[]: ",
		"FROM scratch AS a\nFROM a\nCOPY Dockerfile /\n":         "[" + path + "] [] map[]: Dockerfile",
		"FROM scratch AS a\nFROM scratch\nCOPY --from=a / /b/\n": "[" + path + "] [] map[]: b",
	} {
		dir := buildContext(t, map[string]string{"Dockerfile": dockerfile})
		got := c.ok("inspect", "-f", "{{.Config.Env}} {{.Config.Cmd}} {{.Config.Labels}}", c.built(dir)) + ": " + c.builtFiles(dir)
		if got != want {
			t.Errorf("%q: %s, want %s", dockerfile, got, want)
		}
	}
	id := c.built(buildContext(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nUSER 33\n"}))
	if got := c.ok("run", "--rm", id, "stat", "-c", "%a", "/"); got != "755" {
		t.Errorf("the root has the mode %s", got)
	}
}

// TestBuildMaintainer: the author of an image is that of those that are built on it.
func TestBuildMaintainer(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{"Dockerfile": "FROM base AS a\nARG WHO=them\nMAINTAINER Some of $WHO\nFROM a\nRUN touch /x\nFROM a\nMAINTAINER another\n"})
	for target, want := range map[string]string{"0": "Some of $WHO", "1": "Some of $WHO", "2": "another"} {
		id := c.built("--target", target, dir)
		if got := c.ok("inspect", "-f", "{{.Author}} {{.Config.Labels}}", id); got != want+" map[]" {
			t.Errorf("stage %s: author and labels %s, want %s", target, got, want)
		}
	}
}

// TestBuildErrors: one line that names the place, nothing tagged, nothing left.
func TestBuildErrors(t *testing.T) {
	c := newCLI(t)
	for _, e := range []struct {
		code       int
		dockerfile string
		want       string
	}{
		{125, "", "Dockerfile: "},
		{125, "RUN x\n", "line 1: no build stage"},
		{125, "FROM base\nENV x\n", "line 2"},
		{125, "FROM base AS a\nCOPY --from=a /x /x\n", "the stage a is not there yet"},
		{125, "FROM base\nCOPY --from=7 /x /x\n", "there is no stage 7"},
		{125, "FROM base\nRUN --mount=type=cache true\n", "no target"},
		{1, "FROM base\nRUN [\"/nope\"]\n", "127"},
		{125, "FROM base\nRUNN x\n", "line 2"},
		{125, "FROM base\nCOPY none /x\n", "line 2: there is no none"},
		{125, "FROM base\nCOPY ../up /x\n", "there is no up"},
		{125, "FROM base\nCOPY secret /x\n", "the ignore file leaves it out"},
		{125, "FROM base\nCOPY a b /x\n", "slash"},
		{125, "FROM base\nCOPY none/* /x/\n", "there is no none"},
		{125, "FROM base\nCOPY a /bin\nCOPY a /bin/a/b\n", "line 3"},
		{125, "FROM base\nCOPY --chown=nosuch a /x\n", "nosuch"},
		{125, "FROM base\nCOPY --chmod=9z a /x\n", "--chmod=9z"},
		{125, "FROM base\nCOPY --from=none /a /x\n", "none"},
		{125, "FROM base\nUSER nosuch\nRUN true\n", "nosuch"},
		{125, "FROM base\nRUN --network=odd true\n", "odd"},
		{125, "FROM none:1\n", "none:1"},
		{125, "FROM base AS a\nCOPY none /x\nFROM base\nCOPY --from=a /x /x\n", "Dockerfile, line 2: there is no none"},
		{125, "FROM --platform=linux/s390x base\n", "s390x"},
		{125, "FROM base\nRUN --mount=type=ssh,required true\n", "--ssh"},
		{1, "FROM base\nRUN echo said; exit 7\n", "line 2: the command \"/bin/sh -c echo said; exit 7\" returned a non-zero code: 7"},
		{1, "FROM base\nRUN nosuchcommand\n", "127"},
		{1, "FROM base\nRUN <<EOF\nexit 7\necho\nEOF\n", "the command \"<<EOF (exit 7 ...)\" returned a non-zero code: 7"},
	} {
		dir := buildContext(t, map[string]string{"Dockerfile": e.dockerfile, ".dockerignore": "secret", "secret": "", "a": "", "b": ""})
		r := c.run("build", "-q", "--pull=never", "-t", "failed", dir)
		last := r.stderr[strings.LastIndex(strings.TrimSuffix(r.stderr, "\n"), "\n")+1:]
		if r.code != e.code || r.stdout != "" || !strings.HasPrefix(last, "mica: ") || !strings.Contains(last, e.want) {
			t.Errorf("%q: code %d, %q, want %d and %q", e.dockerfile, r.code, r.stderr, e.code, e.want)
		}
	}
	if r := c.run("build", buildContext(t, map[string]string{"Dockerfile": "FROM base\nRUN <<EOF\nexit 7\nEOF\n"})); !strings.Contains(r.stderr, "2/2] RUN <<EOF (exit 7)\n") {
		t.Errorf("a here-document is shown as %s", r.stderr)
	}
	if r := c.run("inspect", "failed"); r.code == 0 {
		t.Error("a build that failed has tagged something")
	}
	if r := c.run("build", "-q", buildContext(t, map[string]string{"Dockerfile": "FROM base AS a\nCOPY none /x\nFROM base\nCOPY --from=a /x /x\n"})); strings.Contains(r.stderr, "line 4") {
		t.Errorf("the place is told twice: %s", r.stderr)
	}
	c.fails(125, "cannot both", "build", "-f", "-", "-")
	c.fails(125, "no such file", "build", "/nonexistent")
	c.fails(125, "there is no Containerfile", "build", t.TempDir())
	c.fails(125, "no such file", "build", "-q", "--ignorefile", "/nonexistent", buildContext(t, map[string]string{"Dockerfile": "FROM base\n"}))
	c.fails(125, "want always", "build", "--pull=sometimes", ".")
	if left := c.ok("ps", "-a", "--format", "{{.Image}} {{.Command}}"); strings.Contains(left, "sha256:") {
		t.Errorf("containers are left:\n%s", left)
	}
}

// TestBuildAsPodman: options that only Podman's build has.
func TestBuildAsPodman(t *testing.T) {
	c := newCLI(t)
	c.env = append(c.env, "OF_CALLER=theirs")
	dir := buildContext(t, map[string]string{"Dockerfile": `FROM nothing AS a
RUN echo $A $OF_CALLER > /said; mkdir -m 1770 /d; chown 5:6 /d; ln /said /d/hard; ln -s said /soft; rm /bin/true
ENV A=changed
FROM a
USER 7
RUN echo $A; cat /said
`})
	log := filepath.Join(t.TempDir(), "log")
	id := c.built("--from", "base", "--env", "A=given", "--env", "OF_CALLER", "--env", "NOT_SET", "--logfile", log, dir)
	if got := c.ok("inspect", "-f", "{{.Config.Env}}", id); !strings.HasSuffix(got, " A=changed OF_CALLER=theirs]") {
		t.Errorf("the variables are %s", got)
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "\nchanged\ngiven theirs\n") || !strings.Contains(string(text), "FROM base\n") {
		t.Errorf("the log has %s, %v", text, err)
	}
	squashed := c.built("--squash-all", "--from", "base", "--env", "A=given", "--env", "OF_CALLER", dir)
	const script = "stat -c '%n %a %u:%g %h' / /bin /d /d/hard /said; readlink /soft; ls /bin | wc -l; id -u; echo $A"
	if got, want := c.ok("run", "--rm", squashed, "sh", "-c", script), c.ok("run", "--rm", id, "sh", "-c", script); got != want {
		t.Errorf("squashed, the image has\n%s\nwant\n%s", got, want)
	}
	if got := c.ok("inspect", "-f", "{{len .RootFS.Layers}}", squashed); got != "1" {
		t.Errorf("squashed, the image has %s layers", got)
	}
	if again := c.built("--squash-all", "--from", "base", "--env", "A=given", "--env", "OF_CALLER", dir); again != squashed {
		t.Error("squashing again makes another image")
	}
}

// TestBuildInput takes the Dockerfile, or all of the context, from standard input.
func TestBuildInput(t *testing.T) {
	c := newCLI(t)
	if r := c.runInput("FROM base\nRUN echo here > /f\n", "build", "-q", "-t", "alone", "-"); r.code != 0 {
		t.Fatalf("a Dockerfile alone: %+v", r)
	}
	if got := c.ok("run", "--rm", "alone", "cat", "/f"); got != "here" {
		t.Errorf("%q", got)
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for name, content := range map[string]string{"Dockerfile": "FROM base\nCOPY f /f\n", "f": "packed"} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(tw, content)
	}
	tw.Close()
	if r := c.runInput(archive.String(), "build", "-q", "-t", "packed", "-"); r.code != 0 {
		t.Fatalf("an archive: %+v", r)
	}
	if got := c.ok("run", "--rm", "packed", "cat", "/f"); got != "packed" {
		t.Errorf("%q", got)
	}
	dir := buildContext(t, map[string]string{"f": "beside"})
	if r := c.runInput("FROM base\nCOPY f /f\n", "build", "-q", "-t", "beside", "-f", "-", dir); r.code != 0 {
		t.Fatalf("a context beside: %+v", r)
	}
	c.run("rmi", "alone", "packed", "beside")
}

// TestBuildOutput writes what is built where it is asked for, and nothing that the image has not.
func TestBuildOutput(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{"Dockerfile": "FROM base AS b\nRUN mkdir -p /out/d && echo x > /out/d/f\nFROM scratch\nCOPY --from=b /out /\n"})
	dest := filepath.Join(t.TempDir(), "made", "here")
	c.built("-o", dest, dir)
	var got []string
	err := filepath.WalkDir(dest, func(p string, _ os.DirEntry, err error) error {
		got = append(got, strings.TrimPrefix(p, dest))
		return err
	})
	if err != nil || strings.Join(got, " ") != " /d /d/f" {
		t.Errorf("the directory has %q, %v", got, err)
	}
	r := c.run("build", "-q", "-o", "-", dir)
	names := archiveNames(r.stdout)
	if r.code != 0 || strings.Join(names, " ") != "d/ d/f" {
		t.Errorf("the archive has %q: %+v", names, r)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	c.built("-t", "written:1", "-o", "type=docker,dest="+file, dir)
	c.ok("rmi", "written:1")
	if out := c.ok("load", "-i", file); !strings.Contains(out, "written:1") {
		t.Errorf("the archive of the image gives %s", out)
	}
	c.ok("rmi", "written:1")
	told := filepath.Join(t.TempDir(), "told")
	id := c.built("-t", "told:1", "-t", "host.example/told", "--iidfile", told+"-id", "--metadata-file", told, dir)
	meta, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	digest := c.ok("images", "--digests", "--filter", "reference=told:1", "--format", "{{.Digest}}")
	want := "{\n" + `  "containerimage.config.digest": "` + id + `",` + "\n" + `  "containerimage.digest": "` + digest + `",` + "\n" +
		`  "image.name": "docker.io/library/told:1,host.example/told:latest"` + "\n}\n"
	if string(meta) != want {
		t.Errorf("the file of digests has %s, want %s", meta, want)
	}
	if got, err := os.ReadFile(told + "-id"); string(got) != id {
		t.Errorf("the file of the ID has %s, %v", got, err)
	}
	c.ok("rmi", "told:1", "host.example/told")
	for _, wrong := range []string{"type=odd,dest=x", "type=tar", "what=x", "type=image,push=true"} {
		c.fails(125, "--output", "build", "-o", wrong, dir)
	}
}

// archiveNames lists the names in an archive.
func archiveNames(archive string) (names []string) {
	for in := tar.NewReader(strings.NewReader(archive)); ; {
		h, err := in.Next()
		if err != nil {
			return names
		}
		names = append(names, h.Name)
	}
}

// builtFiles builds and lists what is in the image, sorted.
func (c *cli) builtFiles(args ...string) string {
	c.t.Helper()
	r := c.run(append([]string{"build", "-q", "-o", "-"}, args...)...)
	if r.code != 0 {
		c.t.Fatalf("build %q: %+v", args, r)
	}
	names := archiveNames(r.stdout)
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], "/")
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestBuildInterrupted ends a build in the middle of a command, by a signal and by one that cannot be caught.
func TestBuildInterrupted(t *testing.T) {
	c := newCLI(t)
	marker := filepath.Join(t.TempDir(), "marker")
	dir := buildContext(t, map[string]string{"Dockerfile": "FROM base\nRUN echo begun > /marks/here; sleep 1000\n"})
	for _, sig := range []os.Signal{os.Interrupt, os.Kill} {
		os.Remove(marker)
		marks := t.TempDir()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := c.command(ctx, "build", "-v", marks+":/marks", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "the command begins", func() bool { _, err := os.Stat(filepath.Join(marks, "here")); return err == nil })
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		until(t, "nothing is left", func() bool {
			return !strings.Contains(c.ok("ps", "-a", "--no-trunc", "--format", "{{.Command}}"), "/marks/here")
		})
	}
}
