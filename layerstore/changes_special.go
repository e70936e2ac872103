package layerstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mica/internal/portspec"
	"mica/internal/signame"
)

// expose reads ports: PORT or FIRST-LAST, with /tcp (the default), /udp or /sctp.
func (e *changeEditor) expose(text string) error {
	text, err := e.expand(text)
	if err != nil {
		return err
	}
	for _, spec := range strings.Fields(text) {
		ports, err := portspec.Parse(spec)
		if err != nil {
			return fmt.Errorf("port %q: %w", spec, err)
		}
		for port := ports.First; port <= ports.Last; port++ {
			if e.c.ExposedPorts == nil {
				e.c.ExposedPorts = make(map[string]struct{})
			}
			e.c.ExposedPorts[strconv.Itoa(port)+"/"+ports.Protocol] = struct{}{}
		}
	}
	return nil
}

// stopSignal takes a signal's number, or its name with or without SIG.
func (e *changeEditor) stopSignal(text string) error {
	sig, err := e.expand(text)
	if err != nil {
		return err
	}
	if _, err := signame.Parse(sig); err != nil {
		return err
	}
	e.c.StopSignal = sig
	return nil
}

// healthcheck reads NONE, or options and CMD with a command.
func (e *changeEditor) healthcheck(text string) error {
	var h Healthcheck
	for strings.HasPrefix(text, "--") {
		var option string
		option, text = cutWord(text)
		if err := h.option(option); err != nil {
			return err
		}
	}
	kind, command := cutWord(text)
	switch strings.ToUpper(kind) {
	case "NONE":
		if command != "" {
			return errors.New("HEALTHCHECK NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		if command == "" {
			return errors.New("HEALTHCHECK CMD needs a command")
		}
		args, ok, err := jsonArgs(command)
		switch {
		case err != nil:
			return err
		case !ok:
			h.Test = []string{"CMD-SHELL", command}
		case len(args) == 0:
			return errors.New("HEALTHCHECK CMD needs a command")
		default:
			h.Test = append([]string{"CMD"}, args...)
		}
	default:
		return fmt.Errorf("HEALTHCHECK takes CMD or NONE, not %q", kind)
	}
	e.c.Healthcheck = &h
	return nil
}

// cutWord splits off the first word.
func cutWord(text string) (word, rest string) {
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i], strings.TrimSpace(text[i:])
	}
	return text, ""
}

// option reads one --NAME=VALUE of HEALTHCHECK.
func (h *Healthcheck) option(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("option %s has no value", text)
	}
	durations := map[string]*time.Duration{
		"--interval": &h.Interval, "--timeout": &h.Timeout,
		"--start-period": &h.StartPeriod, "--start-interval": &h.StartInterval,
	}
	if d, ok := durations[name]; ok {
		v, err := time.ParseDuration(value)
		if err != nil || v < 0 || v > 0 && v < time.Millisecond {
			return fmt.Errorf("option %s: %q is no time of at least 1ms, like 30s", name, value)
		}
		*d = v
		return nil
	}
	if name != "--retries" {
		return fmt.Errorf("unknown option %s", name)
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("option %s: %q is no number from 0", name, value)
	}
	h.Retries = int(n)
	return nil
}
