package layerstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// ApplyChanges applies instructions of a Dockerfile to a container
// configuration, as `docker commit -c` does. Each string is one instruction.
// After an error c may hold the changes before the wrong one.
func ApplyChanges(c *ContainerConfig, changes []string) error {
	e := &ConfigEditor{Config: c}
	for _, text := range changes {
		if err := e.change(text); err != nil {
			return fmt.Errorf("change %q: %w", clip(text), err)
		}
	}
	return nil
}

// change applies one instruction that is given as text.
func (e *ConfigEditor) change(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("the instruction is empty")
	}
	res, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return plainError(err)
	}
	if len(res.AST.Children) != 1 {
		return errors.New("one change must be one instruction on one line")
	}
	node := res.AST.Children[0]
	name := strings.ToUpper(node.Value)
	if !slices.Contains(configInstructions, name) {
		return fmt.Errorf("%s is no instruction for a change; use one of %s", name, strings.Join(configInstructions, ", "))
	}
	if node.Next == nil && !node.Attributes["json"] {
		return fmt.Errorf("%s needs an argument", name)
	}
	cmd, err := instructions.ParseCommand(node)
	if err != nil {
		return plainError(err)
	}
	env := shell.EnvsFromSlice(e.Config.Env)
	if err := Expand(cmd, parser.DefaultEscapeToken, env); err != nil {
		return err
	}
	_, err = e.Apply(cmd, parser.DefaultEscapeToken, env)
	return err
}

// plainError takes the position away, which says nothing about a text of one line.
func plainError(err error) error {
	var at *parser.LocationError
	if errors.As(err, &at) && at.Unwrap() != nil {
		return at.Unwrap()
	}
	return err
}

// Expand replaces the variables in an instruction by what they stand for.
func Expand(cmd instructions.Command, escape rune, env shell.EnvGetter) error {
	c, ok := cmd.(instructions.SupportsSingleWordExpansion)
	if !ok {
		return nil
	}
	lex := shell.NewLex(escape)
	return c.Expand(func(word string) (string, error) {
		out, _, err := lex.ProcessWord(word, env)
		return out, err
	})
}

// Clone is a copy that shares nothing with c.
func (c ContainerConfig) Clone() ContainerConfig {
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
