package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"mica/internal/imageref"
)

// isGit tells whether an address is that of a git repository: ADDRESS.git[#REF[:DIRECTORY]].
func isGit(address string) bool {
	repo, _, _ := strings.Cut(address, "#")
	if strings.HasPrefix(repo, "git://") || strings.HasPrefix(repo, "git@") || strings.HasPrefix(repo, "ssh://") {
		return true
	}
	return strings.HasSuffix(repo, ".git") && (isURL(repo) || strings.HasPrefix(repo, "file://"))
}

// gitAccess says what git may use of the user's.
type gitAccess struct {
	own bool   // all: the address is the user's
	ssh string // else, the socket of this agent, for ssh; empty: no ssh
}

// remoteProtocols are those that what comes from elsewhere may name.
const remoteProtocols = "https:http:git"

// env is the environment of git. An address that a Dockerfile names gets at nothing of this machine: no repository on its
// disk, no configuration, no credentials.
func (a gitAccess) env(home string) []string {
	env := append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	if a.own {
		return env
	}
	protocols := remoteProtocols
	if a.ssh != "" {
		protocols += ":ssh"
	}
	return append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ALLOW_PROTOCOL="+protocols, "HOME="+home, "XDG_CONFIG_HOME="+home,
		"SSH_AUTH_SOCK="+a.ssh, "GIT_ASKPASS=", "SSH_ASKPASS=")
}

// cloneGit fetches one commit of a repository with git(1) into a new directory in dir, and gives the directory that the address means.
func cloneGit(ctx context.Context, address, dir string, access gitAccess, keepGitDir bool) (string, error) {
	repo, fragment, _ := strings.Cut(address, "#")
	ref, sub, _ := strings.Cut(fragment, ":")
	sub = filepath.Clean("/" + sub)[1:]
	if ref == "" {
		ref = "HEAD"
	}
	if strings.HasPrefix(repo, "-") || strings.HasPrefix(ref, "-") {
		return "", fmt.Errorf("%s is no address of a repository", address)
	}
	if _, err := exec.LookPath("git"); err != nil {
		return "", errors.New("git is missing: install the package git")
	}
	clone, err := os.MkdirTemp(dir, "git-")
	if err != nil {
		return "", err
	}
	env := access.env(dir)
	git := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", clone}, args...)...)
		cmd.Env = env
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			line, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
			return fmt.Errorf("git %s: %w: %s", args[0], err, line)
		}
		return nil
	}
	if err := git("init", "--quiet"); err != nil {
		return "", err
	}
	commit := "FETCH_HEAD"
	if err := git("fetch", "--quiet", "--depth=1", "--", repo, ref); err != nil {
		// A server gives a commit by its full name at most. The beginning of one is looked for in all that there is.
		commit = ref
		if !imageref.CanBeID(ref) || git("fetch", "--quiet", "--tags", "--", repo, "+refs/heads/*:refs/remotes/origin/*") != nil {
			return "", err
		}
	}
	if err := git("checkout", "--quiet", "--detach", commit); err != nil {
		return "", err
	}
	if access.own { // but where the repository leads is not the user's choice
		env = append(env, "GIT_ALLOW_PROTOCOL="+remoteProtocols+":ssh")
	}
	if err := git("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"); err != nil {
		return "", err
	}
	if !keepGitDir {
		if err := os.RemoveAll(filepath.Join(clone, ".git")); err != nil {
			return "", err
		}
	}
	root, err := os.OpenRoot(clone)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if fi, err := root.Stat(filepath.Join(".", sub)); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("there is no directory %s in the repository", sub)
	}
	return filepath.Join(clone, sub), nil
}
