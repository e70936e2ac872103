package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mica/internal/imageref"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// IsGit tells whether an address is that of a git repository: ADDRESS.git[#REF[:DIRECTORY]].
func IsGit(address string) bool {
	repo, _, _ := strings.Cut(address, "#")
	if strings.HasPrefix(repo, "git://") || strings.HasPrefix(repo, "git@") || strings.HasPrefix(repo, "ssh://") {
		return true
	}
	return strings.HasSuffix(repo, ".git") && (isURL(repo) || strings.HasPrefix(repo, "file://"))
}

// CloneGit fetches one commit of a repository with git(1) into a new directory in dir, and gives the directory that the address means.
func CloneGit(ctx context.Context, address, dir string, keepGitDir bool) (string, error) {
	repo, fragment, _ := strings.Cut(address, "#")
	ref, sub, _ := strings.Cut(fragment, ":")
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
	git := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", clone}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
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
	if fi, err := root.Stat(filepath.Join(".", filepath.Clean("/" + sub)[1:])); err != nil || !fi.IsDir() {
		return "", fmt.Errorf("there is no directory %s in the repository", sub)
	}
	return filepath.Join(clone, sub), nil
}
