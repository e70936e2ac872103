package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"mica/run/record"
)

// selection is which containers a command is for, where they need not be named.
type selection struct {
	all, latest bool
	filter      []string
	ignore      bool // do not mind that one that is named is missing
}

// register adds the flags; those of all are the containers that only describes.
func (s *selection) register(c *cobra.Command, shorthand, only string) {
	c.Flags().BoolVarP(&s.all, "all", shorthand, false, "all "+only+", or those that --filter leaves")
	s.latestFlag(c)
	c.Flags().StringArrayVar(&s.filter, "filter", nil, "as that of ps; implies --all")
	c.Args = func(c *cobra.Command, args []string) error {
		if s.any() {
			return cobra.NoArgs(c, args)
		}
		return cobra.MinimumNArgs(1)(c, args)
	}
}

// orLatest gives a command a flag that takes the place of its first argument, a container.
func (a *app) orLatest(c *cobra.Command) *cobra.Command {
	var s selection
	s.latestFlag(c)
	check, do := c.Args, c.RunE
	c.Args = func(c *cobra.Command, args []string) error {
		if s.latest {
			args = append([]string{""}, args...)
		}
		return check(c, args)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if s.latest {
			names, err := s.names(a, nil, anyState)
			if err != nil {
				return err
			}
			args = append(names, args...)
		}
		return do(c, args)
	}
	return c
}

func (s *selection) latestFlag(c *cobra.Command) {
	c.Flags().BoolVarP(&s.latest, "latest", "l", false, "the container that was made last")
}

// registerIgnore adds the flag with which names may be of containers that there are not.
func (s *selection) registerIgnore(c *cobra.Command) {
	c.Flags().BoolVarP(&s.ignore, "ignore", "i", false, "do not mind missing containers")
}

func (s *selection) any() bool { return s.all || s.latest || len(s.filter) > 0 }

// names are the containers that args name, or the IDs of those selected; of all, those for which want holds.
func (s *selection) names(a *app, args []string, want containerState) ([]string, error) {
	if !s.any() && !s.ignore {
		return args, nil
	}
	if s.latest && (s.all || len(s.filter) > 0) {
		return nil, errors.New("--latest goes with neither --all nor --filter: leave one out")
	}
	e, err := a.open()
	if err != nil {
		return nil, err
	}
	if !s.any() {
		return slices.DeleteFunc(slices.Clone(args), func(ref string) bool {
			_, err := e.Containers.Find(ref)
			return errors.Is(err, record.ErrNotFound)
		}), nil
	}
	flt, err := parseFilters(s.filter, containerFilters...)
	if err != nil {
		return nil, err
	}
	match, err := containerFilter(e, flt)
	if err != nil {
		return nil, err
	}
	list, err := e.Containers.List()
	if err != nil {
		return nil, err
	}
	if s.latest {
		i := slices.IndexFunc(list, func(ct *record.Container) bool { return ct.Config.Step == "" })
		if i < 0 {
			return nil, errors.New("--latest: there is no container")
		}
		return []string{list[i].ID()}, nil
	}
	var names []string
	for _, ct := range list {
		if want(ct) && match(ct) {
			names = append(names, ct.ID())
		}
	}
	return names, nil
}

// unlessAll wants arguments where all is not set, and none where it is.
func unlessAll(all *bool) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if *all {
			return cobra.NoArgs(c, args)
		}
		return cobra.MinimumNArgs(1)(c, args)
	}
}
