package main

import "github.com/spf13/cobra"

// treeCommands are the commands on filesystems as such.
func (a *app) treeCommands() []*cobra.Command {
	return []*cobra.Command{a.newMountCommand(), a.newUmountCommand(), newOverlayCommand(), newBenchCommand()}
}
