package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// treeCommands are the commands on filesystems as such.
func (a *app) treeCommands() []*cobra.Command {
	return []*cobra.Command{a.newMountCommand(), a.newUmountCommand(), newOverlayCommand(), newBenchCommand()}
}

// splitSlash gives the parts of s between slashes.
func splitSlash(s string) func(func(string) bool) { return strings.SplitSeq(s, "/") }
