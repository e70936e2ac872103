package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// launcher starts agents.
type launcher struct {
	argv       []string
	namespaces bool // user namespaces work here
	credential *syscall.Credential
	home       string
}

// do runs one task in an agent of its own and returns its sample. The agent and, in namespaces, everything it started
// are gone when do returns.
func (l *launcher) do(ctx context.Context, t *task) (*sample, error) {
	in, inWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	defer inWrite.Close()
	outRead, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start agent: %w", err), in.Close())
	}
	defer outRead.Close()
	var said strings.Builder
	cmd := exec.CommandContext(ctx, l.argv[0], l.argv[1:]...)
	cmd.Stdin, cmd.ExtraFiles = in, []*os.File{out}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = settleTime
	cmd.Env = os.Environ()
	if l.home != "" {
		cmd.Env = append(cmd.Env, "HOME="+l.home, "XDG_CACHE_HOME=", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=")
	}
	cmd.SysProcAttr = l.attributes(t.Namespaces)
	err = cmd.Start()
	if err = errors.Join(err, in.Close(), out.Close()); err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	answer, talkErr := talk(inWrite, outRead, t)
	if waitErr := cmd.Wait(); answer == nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("run agent: %w: %s", errors.Join(talkErr, waitErr), lastLines(said.String(), 3))
	}
	if answer.Err != "" {
		return nil, errors.New(answer.Err)
	}
	return answer.Result, nil
}

// attributes puts an agent in a process group of its own, so that an interrupt from the terminal reaches only the
// parent, and in namespaces where its user is root.
func (l *launcher) attributes(namespaces bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if !namespaces {
		a.Credential = l.credential
		return a
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if l.credential != nil {
		uid, gid = int(l.credential.Uid), int(l.credential.Gid)
		a.Credential = &syscall.Credential{NoSetGroups: true}
	}
	a.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
	a.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	return a
}

// talk sends the task, serves the agent's questions and returns its last message.
func talk(in io.Writer, out io.Reader, t *task) (*message, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode task: %w", err)
	}
	if _, err := in.Write(append(raw, '\n')); err != nil {
		return nil, fmt.Errorf("send task: %w", err)
	}
	dec := json.NewDecoder(bufio.NewReader(out))
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		if m.Ask == "" {
			return &m, nil
		}
		reply := "kept\n"
		if dropCaches() == nil {
			reply = "dropped\n"
		}
		if _, err := io.WriteString(in, reply); err != nil {
			return nil, fmt.Errorf("answer agent: %w", err)
		}
	}
}

// dropCaches makes the kernel forget clean pages, dentries and inodes. Only root may.
func dropCaches() error {
	if os.Geteuid() != 0 {
		return os.ErrPermission
	}
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}
