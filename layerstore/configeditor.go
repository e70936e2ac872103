package layerstore

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"mica/internal/environ"
	"mica/internal/portspec"
	"mica/internal/signame"
)

// configInstructions are those that a [ConfigEditor] knows and a commit takes.
var configInstructions = []string{
	"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}

// ConfigEditor applies instructions of a Dockerfile, one after the other, to a container configuration.
type ConfigEditor struct {
	Config *ContainerConfig
	cmdSet bool // a CMD has been among them
}

// Apply carries out an instruction whose variables are replaced, and gives its text for a history. env is for
// those instructions in which one word may become several.
func (e *ConfigEditor) Apply(cmd instructions.Command, escape rune, env shell.EnvGetter) (text string, err error) {
	c := e.Config
	switch cmd := cmd.(type) {
	case *instructions.EnvCommand:
		if err := checkNames(cmd.Env); err != nil {
			return "", err
		}
		for _, kv := range cmd.Env {
			c.Env = environ.Set(c.Env, kv.Key+"="+kv.Value)
		}
		return "ENV " + pairText(cmd.Env), nil
	case *instructions.LabelCommand:
		if err := checkNames(cmd.Labels); err != nil {
			return "", err
		}
		if c.Labels == nil {
			c.Labels = make(map[string]string)
		}
		for _, kv := range cmd.Labels {
			c.Labels[kv.Key] = kv.Value
		}
		return "LABEL " + pairText(cmd.Labels), nil
	case *instructions.CmdCommand:
		c.Cmd, e.cmdSet = c.CommandLine(&cmd.ShellDependantCmdLine), true
		return "CMD " + listText(c.Cmd), nil
	case *instructions.EntrypointCommand:
		if c.Entrypoint = c.CommandLine(&cmd.ShellDependantCmdLine); len(c.Entrypoint) == 0 {
			c.Entrypoint = nil
		}
		if !e.cmdSet {
			c.Cmd = nil // it belonged to the old one
		}
		return "ENTRYPOINT " + listText(c.Entrypoint), nil
	case *instructions.ExposeCommand:
		return e.expose(cmd.Ports, escape, env)
	case *instructions.UserCommand:
		if cmd.User == "" {
			return "", errors.New("the user is empty")
		}
		c.User = cmd.User
		return "USER " + cmd.User, nil
	case *instructions.WorkdirCommand:
		if cmd.Path == "" {
			return "", errors.New("the directory is empty")
		}
		if path.IsAbs(cmd.Path) {
			c.WorkingDir = path.Clean(cmd.Path)
		} else {
			c.WorkingDir = path.Join("/", c.WorkingDir, cmd.Path)
		}
		return "WORKDIR " + cmd.Path, nil
	case *instructions.VolumeCommand:
		for _, v := range cmd.Volumes {
			if v == "" {
				return "", errors.New("a volume is an empty string")
			}
			put(&c.Volumes, v)
		}
		return "VOLUME " + listText(cmd.Volumes), nil
	case *instructions.StopSignalCommand:
		if _, err := signame.Parse(cmd.Signal); err != nil {
			return "", err
		}
		c.StopSignal = cmd.Signal
		return "STOPSIGNAL " + cmd.Signal, nil
	case *instructions.ShellCommand:
		c.Shell = slices.Clone(cmd.Shell)
		return "SHELL " + listText(cmd.Shell), nil
	case *instructions.OnbuildCommand:
		c.OnBuild = append(c.OnBuild, cmd.Expression)
		return "ONBUILD " + cmd.Expression, nil
	case *instructions.HealthCheckCommand:
		h := cmd.Health
		c.Healthcheck = &Healthcheck{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
		return "HEALTHCHECK " + c.Healthcheck.text(), nil
	}
	return "", fmt.Errorf("%s is no instruction for a configuration", strings.ToUpper(cmd.Name()))
}

// CommandLine is a command as the configuration has it: the shell form goes through the image's shell.
func (c *ContainerConfig) CommandLine(l *instructions.ShellDependantCmdLine) []string {
	if !l.PrependShell {
		return l.CmdLine
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), strings.Join(l.CmdLine, " "))
}

func checkNames(pairs instructions.KeyValuePairs) error {
	if slices.ContainsFunc(pairs, func(kv instructions.KeyValuePair) bool { return kv.Key == "" }) {
		return errors.New("a name is empty")
	}
	return nil
}

// expose reads ports: PORT or FIRST-LAST, with /tcp (the default), /udp or /sctp.
func (e *ConfigEditor) expose(specs []string, escape rune, env shell.EnvGetter) (string, error) {
	lex := shell.NewLex(escape)
	var all []string
	for _, spec := range specs {
		words, err := lex.ProcessWords(spec, env)
		if err != nil {
			return "", err
		}
		all = append(all, words...)
	}
	for _, spec := range all {
		ports, err := portspec.Parse(spec)
		if err != nil {
			return "", fmt.Errorf("port %q: %w", spec, err)
		}
		for port := ports.First; port <= ports.Last; port++ {
			put(&e.Config.ExposedPorts, strconv.Itoa(port)+"/"+ports.Protocol)
		}
	}
	return "EXPOSE " + strings.Join(all, " "), nil
}

func put(set *map[string]struct{}, key string) {
	if *set == nil {
		*set = make(map[string]struct{})
	}
	(*set)[key] = struct{}{}
}

func pairText(list instructions.KeyValuePairs) string {
	texts := make([]string, len(list))
	for i, kv := range list {
		texts[i] = kv.Key + "=" + kv.Value
	}
	return strings.Join(texts, " ")
}

// listText shows words as the histories of Docker's images do.
func listText(words []string) string { return fmt.Sprintf("%q", words) }

func (h *Healthcheck) text() string {
	var b strings.Builder
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start-period", h.StartPeriod}, {"start-interval", h.StartInterval}} {
		if f.value != 0 {
			fmt.Fprintf(&b, "--%s=%s ", f.name, f.value)
		}
	}
	if h.Retries != 0 {
		fmt.Fprintf(&b, "--retries=%d ", h.Retries)
	}
	return b.String() + strings.Join(h.Test, " ")
}
