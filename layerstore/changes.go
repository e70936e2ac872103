package layerstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"mica/internal/environ"
)

// ApplyChanges applies instructions of a Dockerfile to a container
// configuration, as `docker commit -c` does. Each string is one instruction.
// After an error c may hold the changes before the wrong one.
func ApplyChanges(c *ContainerConfig, changes []string) error {
	e := &changeEditor{c: c}
	for _, text := range changes {
		if err := e.apply(text); err != nil {
			return fmt.Errorf("change %q: %w", clip(text), err)
		}
	}
	return nil
}

// changeEditor carries what one instruction leaves for the next.
type changeEditor struct {
	c      *ContainerConfig
	cmdSet bool // a CMD has been among the changes
}

// apply reads one instruction: a word, and what follows it.
func (e *changeEditor) apply(text string) error {
	text = strings.TrimSpace(strings.NewReplacer("\\\r\n", "", "\\\n", "").Replace(text))
	if text == "" {
		return errors.New("the instruction is empty")
	}
	if strings.ContainsAny(text, "\r\n") {
		return errors.New("one change must be one instruction on one line")
	}
	word, rest := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		word, rest = text[:i], strings.TrimSpace(text[i:])
	}
	handlers := map[string]func(string) error{
		"CMD": e.cmd, "ENTRYPOINT": e.entrypoint, "ENV": e.env, "EXPOSE": e.expose,
		"HEALTHCHECK": e.healthcheck, "LABEL": e.label, "ONBUILD": e.onBuild,
		"STOPSIGNAL": e.stopSignal, "USER": e.user, "VOLUME": e.volume, "WORKDIR": e.workDir,
	}
	name := strings.ToUpper(word)
	handle, ok := handlers[name]
	if !ok {
		return fmt.Errorf("%s is no instruction for a change; use one of %s",
			name, strings.Join(slices.Sorted(maps.Keys(handlers)), ", "))
	}
	if rest == "" {
		return fmt.Errorf("%s needs an argument", name)
	}
	return handle(rest)
}

// clone is a copy that shares nothing with c.
func (c ContainerConfig) clone() ContainerConfig {
	c.ExposedPorts, c.Volumes, c.Labels = maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes), maps.Clone(c.Labels)
	c.Env, c.Entrypoint, c.Cmd = slices.Clone(c.Env), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	c.OnBuild, c.Shell = slices.Clone(c.OnBuild), slices.Clone(c.Shell)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	if c.StopTimeout != nil {
		t := *c.StopTimeout
		c.StopTimeout = &t
	}
	return c
}

// jsonArgs reads the JSON form of an argument list. What does not parse as an
// array is the shell form; an array of anything but strings is an error.
func jsonArgs(text string) (args []string, ok bool, err error) {
	if !strings.HasPrefix(text, "[") {
		return nil, false, nil
	}
	var values []any
	if json.Unmarshal([]byte(text), &values) != nil {
		return nil, false, nil
	}
	args = make([]string, 0, len(values))
	for _, v := range values {
		s, isString := v.(string)
		if !isString {
			return nil, false, errors.New("the JSON array must hold strings only")
		}
		args = append(args, s)
	}
	return args, true, nil
}

// command reads a command in JSON or shell form; the shell form is run by the
// image's shell.
func (e *changeEditor) command(text string) ([]string, error) {
	args, ok, err := jsonArgs(text)
	if err != nil || ok {
		return args, err
	}
	shell := e.c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), text), nil
}

func (e *changeEditor) cmd(text string) error {
	args, err := e.command(text)
	if err != nil {
		return err
	}
	e.c.Cmd, e.cmdSet = args, true
	return nil
}

// entrypoint also drops the inherited CMD, which belonged to the old one,
// unless one of these changes has set it.
func (e *changeEditor) entrypoint(text string) error {
	args, err := e.command(text)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = nil
	}
	e.c.Entrypoint = args
	if !e.cmdSet {
		e.c.Cmd = nil
	}
	return nil
}

func (e *changeEditor) env(text string) error {
	pairs, err := e.nameValues(text)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		e.c.Env = environ.Set(e.c.Env, p.name+"="+p.value)
	}
	return nil
}

func (e *changeEditor) label(text string) error {
	pairs, err := e.nameValues(text)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if e.c.Labels == nil {
			e.c.Labels = make(map[string]string)
		}
		e.c.Labels[p.name] = p.value
	}
	return nil
}

type nameValue struct{ name, value string }

// nameValues reads NAME=VALUE..., or the older NAME VALUE, where the value is
// the rest of the line. All are expanded with the environment before the instruction.
func (e *changeEditor) nameValues(text string) ([]nameValue, error) {
	words := splitWords(text)
	var pairs []nameValue
	if !strings.Contains(words[0], "=") {
		i := strings.IndexAny(text, " \t")
		if i < 0 {
			return nil, fmt.Errorf("%s has no value; write NAME=VALUE", text)
		}
		pairs = []nameValue{{text[:i], strings.TrimSpace(text[i:])}}
	} else {
		for _, w := range words {
			name, value, ok := strings.Cut(w, "=")
			if !ok {
				return nil, fmt.Errorf("%q has no '='; write NAME=VALUE", w)
			}
			pairs = append(pairs, nameValue{name, value})
		}
	}
	for i, p := range pairs {
		var err error
		if pairs[i].name, err = e.expand(p.name); err != nil {
			return nil, err
		}
		if pairs[i].value, err = e.expand(p.value); err != nil {
			return nil, err
		}
		if pairs[i].name == "" {
			return nil, errors.New("a name is empty")
		}
	}
	return pairs, nil
}

func (e *changeEditor) user(text string) error {
	user, err := e.expand(text)
	if err != nil {
		return err
	}
	if user == "" {
		return errors.New("the user is empty")
	}
	e.c.User = user
	return nil
}

// workDir takes a relative directory as below the one before.
func (e *changeEditor) workDir(text string) error {
	dir, err := e.expand(text)
	if err != nil {
		return err
	}
	if dir == "" {
		return errors.New("the directory is empty")
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", e.c.WorkingDir, dir)
	}
	e.c.WorkingDir = path.Clean(dir)
	return nil
}

func (e *changeEditor) volume(text string) error {
	list, ok, err := jsonArgs(text)
	if err != nil {
		return err
	}
	if !ok {
		list = strings.Fields(text)
	}
	for _, v := range list {
		if v, err = e.expand(v); err != nil {
			return err
		}
		if v = strings.TrimSpace(v); v == "" {
			return errors.New("a volume is an empty string")
		}
		if e.c.Volumes == nil {
			e.c.Volumes = make(map[string]struct{})
		}
		e.c.Volumes[v] = struct{}{}
	}
	return nil
}

func (e *changeEditor) onBuild(text string) error {
	trigger, _, _ := strings.Cut(strings.ToUpper(text), " ")
	switch trigger {
	case "ONBUILD":
		return errors.New("ONBUILD cannot trigger ONBUILD")
	case "FROM", "MAINTAINER":
		return fmt.Errorf("ONBUILD cannot trigger %s", trigger)
	}
	e.c.OnBuild = append(e.c.OnBuild, text)
	return nil
}
