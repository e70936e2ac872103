package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/registrytest"
)

// tool finds a program that mica is tried out with.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing; install the package of that name", name)
	}
	return path
}

// realRegistry starts Debian's registry on a free port of the loopback. more is added to its configuration.
func realRegistry(t *testing.T, more string) (host string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: \"127.0.0.1:0\"}\n%s", dir, more)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "docker-registry"), "serve", conf)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	var said strings.Builder
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if _, rest, ok := strings.Cut(lines.Text(), "listening on "); ok {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return strings.TrimRight(strings.Fields(rest)[0], `"`), stop
		}
	}
	t.Fatalf("the registry does not listen:\n%s", said.String())
	return "", stop
}

// ownStore is a command line with a store and a home directory of its own.
func ownStore(t *testing.T) *cli {
	newCLI(t) // which makes the program
	home := t.TempDir()
	env := []string{"HOME=" + home}
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "CONTAINERS_REGISTRIES_CONF"} {
		env = append(env, name+"=")
	}
	return &cli{t: t, root: filepath.Join(t.TempDir(), "store"), env: env}
}

// has fails the test unless text has all words.
func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in %q", w, text)
		}
	}
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, "skopeo"), append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_RUNTIME_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestRegistry goes both ways between mica, a registry and skopeo.
func TestRegistry(t *testing.T) {
	host, stop := realRegistry(t, "")
	c, shared := ownStore(t), newCLI(t)
	name := host + "/team/base:1"
	shared.ok("tag", "base", name)
	defer shared.ok("rmi", name)
	digest := shared.ok("images", "--digests", "--format", "{{.Digest}}", name)
	has(t, shared.ok("push", name), "The push refers to repository ["+host+"/team/base]\n", ": Pushed\n", "1: digest: "+digest+" size: ")
	has(t, shared.ok("push", name), ": Layer already exists\n")
	if out := shared.ok("push", "-q", name); out != name {
		t.Errorf("push -q says %q", out)
	}
	if got := skopeo(t, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+name); got != digest {
		t.Errorf("skopeo sees %s, want %s", got, digest)
	}

	byDigest := host + "/team/base@" + digest
	has(t, c.ok("pull", byDigest), byDigest+": Pulling from team/base\n", "Status: Downloaded newer image for "+byDigest)
	has(t, c.ok("images", "--digests"), host+"/team/base   <none>    "+digest)
	if r := c.run("run", "--rm", byDigest, "true"); r.code != 0 || r.stderr != "" {
		t.Errorf("by its digest: exit code %d, %s", r.code, r.stderr)
	}

	out := c.ok("pull", host+"/team/base:1")
	if want := fmt.Sprintf("1: Pulling from team/base\nDigest: %s\nStatus: Downloaded newer image for %s\n%s", digest, name, name); out != want {
		t.Errorf("pull says %q, want %q", out, want)
	}
	has(t, c.ok("pull", name), "Status: Image is up to date for "+name)
	if out := c.ok("pull", "-q", name); out != name {
		t.Errorf("pull -q says %q", out)
	}
	has(t, c.ok("inspect", "-f", "{{.RepoDigests}}", name), host+"/team/base@"+digest)

	for i, args := range [][]string{{"--format", "v2s2"}, {"--format", "oci", "--dest-compress-format", "zstd"}} {
		copied := fmt.Sprintf("%s/copied:%d", host, i)
		skopeo(t, append([]string{"copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-compress", "docker://" + name, "docker://" + copied}, args...)...)
		r := c.run("run", "--rm", copied, "cat", "/etc/os-release")
		if r.code != 0 || r.stdout != "ID=mica-test\n" {
			t.Errorf("%v: exit code %d, %q, %s", args, r.code, r.stdout, r.stderr)
		}
		has(t, r.stderr, "Unable to find image '"+copied+"' locally\n", "Status: Downloaded newer image for "+copied)
	}
	has(t, c.ok("pull", "-a", host+"/copied"), "0: Pulling from copied\n", "1: Pulling from copied\n", "Status: Image is up to date for "+host+"/copied\n")
	c.fails(1, "--all-tags takes a name without a tag", "pull", "-a", name)

	c.ok("rmi", name)
	c.fails(125, "no such image", "run", "--rm", "--pull", "never", name, "true")
	c.fails(1, "has no image team/base:2", "pull", host+"/team/base:2")

	c.ok("pull", "-q", name)
	stop()
	for policy, works := range map[string]bool{"missing": true, "newer": true, "never": true, "always": false} {
		r := c.run("run", "--rm", "--pull", policy, name, "true")
		if works != (r.code == 0) || !works && (r.code != 125 || !strings.Contains(r.stderr, host+" refuses the connection")) {
			t.Errorf("--pull %s without the registry: exit code %d, %s", policy, r.code, r.stderr)
		}
	}
	has(t, c.ok("system", "check"), "clean")
}

// TestPullPolicy asks the registry when --pull says so, and for nothing that is no name of its.
func TestPullPolicy(t *testing.T) {
	reg := registrytest.New(t)
	c, shared := ownStore(t), newCLI(t)
	name := reg.Host() + "/app:latest"
	shared.ok("tag", "base", name)
	defer shared.ok("rmi", name)
	shared.ok("push", name)
	c.ok("create", "--pull", "missing", name, "true")
	requests := reg.Count("")
	c.ok("create", name, "true")
	id := c.ok("inspect", "-f", "{{.Id}}", name)
	for _, policy := range []string{"missing", "always", "newer"} {
		for _, ref := range []string{id, strings.TrimPrefix(id, "sha256:")[:12], "host"} {
			c.ok("create", "--pull", policy, ref, "true")
		}
		c.fails(125, "no such image: 0123456789ab", "create", "--pull", policy, "0123456789ab", "true")
	}
	if n := reg.Count("") - requests; n > 0 {
		t.Errorf("%d requests for what is there or can be nowhere", n)
	}
	// The name gets another image.
	shared.ok("import", "-c", "LABEL new=1", filepath.Join(shared.root, "../base.tar"), name)
	shared.ok("push", name)
	for _, policy := range []string{"missing", "newer"} {
		r := c.run("create", "--pull", policy, name, "true")
		if newer := strings.Contains(r.stderr, "Downloaded newer image"); r.code != 0 || newer != (policy == "newer") || strings.Contains(r.stderr, "Unable") {
			t.Errorf("--pull %s: exit code %d, %s", policy, r.code, r.stderr)
		}
	}
	c.fails(125, "want always, missing, never or newer", "run", "--pull", "often", name)
}

// TestLoginCommand logs in to a registry that knows users, in a file that skopeo reads too.
func TestLoginCommand(t *testing.T) {
	users := filepath.Join(t.TempDir(), "htpasswd")
	const entry = "user:$2b$04$.JDQy7Y6tE.woLACnWbrWOsZu7PJa6CZoPB5qA9plRQ6hwbdc6QNS\n" // the password is "secret"
	if err := os.WriteFile(users, []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	host, _ := realRegistry(t, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", users))
	c, shared := ownStore(t), newCLI(t)
	file := filepath.Join(t.TempDir(), "auth.json")
	name := host + "/app:1"
	shared.ok("tag", "base", name)
	defer shared.ok("rmi", name)
	shared.fails(1, "no such file", "push", "--authfile", file, name)
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	shared.fails(1, `"mica login `+host+`"`, "push", "--authfile", file, name)
	c.fails(1, "no terminal to ask", "login", host)
	c.fails(1, "needs --username", "login", "--password-stdin", host)
	r := c.runInput("wrong\n", "login", "--authfile", file, "-u", "user", "--password-stdin", host)
	if r.code != 1 || !strings.Contains(r.stderr, "does not accept this user name and password") || strings.Contains(r.stderr, "wrong") {
		t.Errorf("wrong password: exit code %d, %s", r.code, r.stderr)
	}
	r = c.runInput("secret\n", "login", "--authfile", file, "-u", "user", "--password-stdin", host)
	if r.code != 0 || r.stdout != "Login Succeeded\n" || r.stderr != "" {
		t.Errorf("login: exit code %d, %q, %s", r.code, r.stdout, r.stderr)
	}
	shared.ok("push", "--authfile", file, name)
	skopeo(t, "inspect", "--tls-verify=false", "--authfile", file, "docker://"+name)
	c.ok("pull", "--creds", "user:secret", name)
	has(t, c.ok("logout", "--authfile", file, host), "Removing login credentials for "+host)
	has(t, c.ok("logout", "--authfile", file, host), "Not logged in to "+host)
	c.fails(1, "denies access", "pull", "--creds", "user:no", name)
}

// TestPullAllTags leaves what is no image, and warns of what is for another machine.
func TestPullAllTags(t *testing.T) {
	reg := registrytest.New(t)
	c, shared := ownStore(t), newCLI(t)
	name, other := reg.Host()+"/app:1", reg.Host()+"/app:3"
	shared.ok("tag", "base", name)
	shared.ok("import", "--platform", "linux/s390x", filepath.Join(shared.root, "../base.tar"), other)
	defer shared.ok("rmi", name, other)
	shared.ok("push", "-a", reg.Host()+"/app")
	reg.AddManifest("app", "2.sig", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"mediaType":"application/x","digest":"`+
		string(digest.FromString("x"))+`","size":1}}`))
	r := c.run("pull", "-a", reg.Host()+"/app")
	if r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	has(t, r.stderr, "Skipped: pull "+reg.Host()+"/app:2.sig: ", "no image but of application/x\n", "WARNING: the image is for linux/s390x, not for this machine, which is "+ownPlatform+"\n")
	has(t, c.ok("images"), "/app   1 ", "/app   3 ")
	if r := c.run("pull", "--platform", "linux/s390x", other); r.code != 0 || r.stderr != "" {
		t.Errorf("asked for: exit code %d, %s", r.code, r.stderr)
	}
}

// TestLoginOnATerminal asks, and shows no password.
func TestLoginOnATerminal(t *testing.T) {
	reg := registrytest.New(t)
	reg.Hook = registrytest.Basic
	tt := ownStore(t).terminal(24, 80, "login", reg.Host())
	tt.expect("Username: ")
	tt.typed(registrytest.User + "\n")
	tt.expect("Password: ")
	tt.typed(registrytest.Password + "\n")
	tt.expect("Login Succeeded")
	if code := tt.code(); code != 0 || strings.Contains(tt.said(), registrytest.Password) {
		t.Errorf("exit code %d, %q", code, tt.said())
	}
}

// TestPullInterrupted ends at once, with nothing left.
func TestPullInterrupted(t *testing.T) {
	reg := registrytest.New(t)
	c, shared := ownStore(t), newCLI(t)
	name := reg.Host() + "/app:1"
	shared.ok("tag", "base", name)
	defer shared.ok("rmi", name)
	shared.ok("push", name)
	asked := make(chan struct{}, 8)
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	}
	for _, args := range [][]string{{"pull", name}, {"run", "--rm", name, "true"}, {"create", name, "true"}} {
		cmd := c.command(context.Background(), args...)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 || strings.Contains(said.String(), "mica:") {
			t.Errorf("%v: exit code %d, %s", args, code, said.String())
		}
		for _, dir := range []string{"tmp", "blobs/sha256", "layers"} {
			if list, err := os.ReadDir(filepath.Join(c.root, dir)); err != nil || len(list) > 0 {
				t.Errorf("%v: left in %s: %v, %v", args, dir, list, err)
			}
		}
	}
}

// TestRegistryIsNotObeyed: what a registry says does nothing to a terminal.
func TestRegistryIsNotObeyed(t *testing.T) {
	reg := registrytest.New(t)
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		registrytest.Fail(w, http.StatusForbidden, "DENIED", "\x1b[31mred\nline")
		return true
	}
	c := ownStore(t)
	for code, args := range map[int][]string{1: {"pull", reg.Host() + "/app"}, 125: {"run", reg.Host() + "/app"}} {
		r := c.run(args...)
		if r.code != code || strings.Contains(r.stderr, "\x1b") || !strings.Contains(r.stderr, `\x1b[31mred\nline`) {
			t.Errorf("%v: exit code %d, %q", args, r.code, r.stderr)
		}
	}
}
