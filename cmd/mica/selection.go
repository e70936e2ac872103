package main

import "github.com/spf13/cobra"

// selection is which containers a command is for, where they need not be named.
type selection struct {
	all    bool
	filter []string
}

// register adds the flags; those of all are the containers that only describes.
func (s *selection) register(c *cobra.Command, shorthand, only string) {
	c.Flags().BoolVarP(&s.all, "all", shorthand, false, "all "+only+", or those that --filter leaves")
	c.Flags().StringArrayVar(&s.filter, "filter", nil, "as that of ps; implies --all")
	c.Args = func(c *cobra.Command, args []string) error {
		if s.any() {
			return cobra.NoArgs(c, args)
		}
		return cobra.MinimumNArgs(1)(c, args)
	}
}

func (s *selection) any() bool { return s.all || len(s.filter) > 0 }

// names are the containers that args name, or the IDs of those selected for which want holds.
func (s *selection) names(a *app, args []string, want containerState) ([]string, error) {
	if !s.any() {
		return args, nil
	}
	flt, err := parseFilters(s.filter, containerFilters...)
	if err != nil {
		return nil, err
	}
	e, err := a.open()
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
	var names []string
	for _, ct := range list {
		if want(ct) && match(ct) {
			names = append(names, ct.ID())
		}
	}
	return names, nil
}
