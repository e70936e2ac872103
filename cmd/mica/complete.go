package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mica/run/record"
)

// completer offers words for an argument.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// containerStates are conditions on the containers that a command takes.
type containerState func(*record.Container) bool

func anyState(*record.Container) bool      { return true }
func runningOnly(c *record.Container) bool { return c.State.Alive() }
func stoppedOnly(c *record.Container) bool { return !c.State.Alive() }

// completeContainers offers names of containers for the first most arguments;
// 0 for all of them.
func (a *app) completeContainers(state containerState, most int) completer {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveDefault
		}
		e, err := a.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := e.Containers.List()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var words []string
		for _, c := range list {
			if state(c) && strings.HasPrefix(c.Config.Name, prefix) && !slices.Contains(args, c.Config.Name) {
				words = append(words, c.Config.Name+"\t"+c.Config.Image)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeImages offers names of images for the first most arguments; 0 for
// all of them.
func (a *app) completeImages(most int) completer {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveDefault
		}
		s, err := a.store()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		images, _ := s.Images() // those that can be read
		var words []string
		for _, img := range images {
			for _, name := range img.Names {
				short := strings.TrimSuffix(name, ":latest")
				if strings.HasPrefix(short, prefix) && !slices.Contains(args, short) {
					words = append(words, short)
				}
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeVolumes offers names of volumes.
func (a *app) completeVolumes(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	e, err := a.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := e.Volumes().List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, v := range list {
		if strings.HasPrefix(v.Name, prefix) && !slices.Contains(args, v.Name) {
			words = append(words, v.Name)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
