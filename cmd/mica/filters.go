package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"mica/internal/format"
)

// filters are the conditions of --filter by key; values of one key are
// alternatives.
type filters map[string][]string

// parseFilters reads KEY=VALUE conditions with the keys known.
func parseFilters(list []string, known ...string) (filters, error) {
	f := make(filters)
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if negated, is := strings.CutSuffix(key, "!"); is {
			key = negated + "!"
		}
		if !ok || !slices.Contains(known, key) {
			return nil, fmt.Errorf("filter %q: want one of %s", s, strings.Join(known, "=, ")+"=")
		}
		if key == "until" {
			if _, err := momentAt(value, time.Now()); err != nil {
				return nil, fmt.Errorf("filter %s: %w", s, err)
			}
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// any tells whether some value of key satisfies match; a key without values
// is satisfied.
func (f filters) any(key string, match func(string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], match)
}

// labels tells whether labels satisfy all of label=, and none of label!=.
func (f filters) labels(labels map[string]string) bool {
	has := func(cond string) bool {
		key, value, exact := strings.Cut(cond, "=")
		got, ok := labels[key]
		return ok && (!exact || got == value)
	}
	for _, cond := range f["label"] {
		if !has(cond) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], has)
}

// names makes the test that some regular expression of name= matches.
func (f filters) names() (func(string) bool, error) {
	patterns := make(map[string]*regexp.Regexp)
	for _, s := range f["name"] {
		var err error
		if patterns[s], err = regexp.Compile(s); err != nil {
			return nil, fmt.Errorf("filter name=%s: %w", s, err)
		}
	}
	return func(name string) bool {
		return f.any("name", func(s string) bool { return patterns[s].MatchString(name) })
	}, nil
}

// before tells whether t is before every until=.
func (f filters) before(t, now time.Time) bool {
	return !slices.ContainsFunc(f["until"], func(s string) bool {
		limit, err := momentAt(s, now)
		return err != nil || !t.Before(limit)
	})
}

// flag reads a filter that is true or false.
func (f filters) flag(key string) (value, set bool, err error) {
	if len(f[key]) == 0 {
		return false, false, nil
	}
	value, err = strconv.ParseBool(f[key][0])
	if err != nil {
		return false, false, fmt.Errorf("filter %s=%s: want true or false", key, f[key][0])
	}
	return value, true, nil
}

// parseMoment reads a time, or a duration before now; empty is no time.
func parseMoment(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return momentAt(s, time.Now())
}

// layouts are the forms of a time: Docker's, each also with a timezone, those with a space between date and time, and what
// Go prints. A fraction of seconds goes with any that has seconds.
var layouts = []string{
	"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
	"2006-01-02 15:04:05", "2006-01-02 15:04:05 -0700 MST",
}

func momentAt(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Unix(0, int64(seconds*1e9)), nil
	}
	return time.Time{}, fmt.Errorf("time %q: want one such as 2026-01-31T12:00:00, or a duration such as 10m", s)
}

// confirm asks, unless force is set.
func confirm(force bool, what string) error {
	if force {
		return nil
	}
	return ask(context.Background(), what, "add -f to go ahead", "nothing was removed")
}

// ask reads an answer from standard input, which yes(1) may give too, until ctx ends. instead says what to do where there is
// nobody to answer, no what a refusal means.
func ask(ctx context.Context, what, instead, no string) error {
	fmt.Fprintf(os.Stderr, "%s Go on? [y/N] ", what)
	answered := make(chan string, 1)
	go func() {
		answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // none at all is a no
		answered <- answer
	}()
	answer := ""
	select {
	case answer = <-answered:
	case <-ctx.Done():
	}
	if !term.IsTerminal(0) {
		fmt.Fprintln(os.Stderr) // where the terminal shows the line feed that was typed
	}
	switch {
	case strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y"):
		return nil
	case answer == "":
		return errors.New(no + ": " + instead)
	}
	return errors.New(no)
}

// pruned is what a prune has removed.
type pruned struct {
	any   bool // something was listed
	bytes int64
}

// report prints the last line of every prune. It takes what the prune gives.
func report(p pruned, err error) error {
	if err != nil {
		return err
	}
	if p.any {
		fmt.Fprintln(stdout)
	}
	fmt.Fprintln(stdout, "Total reclaimed space:", format.Size(p.bytes))
	return nil
}
