package main

import (
	"github.com/spf13/cobra"
)

// containerCommands are the commands on containers. top says that they stand
// at the top, where some have other names than below `mica container`.
func (a *app) containerCommands(top bool) []*cobra.Command {
	list := []*cobra.Command{
		a.newRunCommand(), a.newCreateCommand(), a.newStartCommand(), a.newStopCommand(), a.newKillCommand(), a.newRestartCommand(),
		a.newPauseCommand(true), a.newPauseCommand(false),
		a.newWaitCommand(), a.newRmCommand(), a.newRenameCommand(),
		a.newCommitCommand(), a.newCopyCommand(), a.newExportCommand(),
		a.newStatsCommand(), a.newUpdateCommand(),
	}
	for _, c := range []*cobra.Command{
		a.newExecCommand(), a.newAttachCommand(), a.newLogsCommand(), a.newDiffCommand(), a.newTopCommand(), a.newPortCommand(),
	} {
		list = append(list, a.orLatest(c))
	}
	if top {
		return append(list, a.newPsCommand("ps"), a.orLatest(a.newInspectCommand(inspectAny)))
	}
	ls := a.newPsCommand("ls")
	ls.Aliases = []string{"ps", "list"}
	return append(list, ls, a.orLatest(a.newInspectCommand(inspectContainers)), a.newContainerPruneCommand(), a.newExistsCommand(inspectContainers))
}

func (a *app) containerGroup() *cobra.Command {
	return group("container", "Manage containers", a.containerCommands(false)...)
}

// imageCommands are the commands on images.
func (a *app) imageCommands(top bool) []*cobra.Command {
	list := []*cobra.Command{
		a.newBuildCommand(), a.newPullCommand(), a.newPushCommand(), a.newImportCommand(), a.newLoadCommand(), a.newSaveCommand(), a.newTagCommand(), a.newUntagCommand(), a.newHistoryCommand(),
	}
	if top {
		return append(list, a.newImagesCommand("images"), a.newRmiCommand("rmi"))
	}
	ls := a.newImagesCommand("ls")
	ls.Aliases = []string{"list"}
	rm := a.newRmiCommand("rm")
	rm.Aliases = []string{"remove"}
	return append(list, ls, rm, a.newInspectCommand(inspectImages), a.newImagePruneCommand(), a.newExistsCommand(inspectImages))
}

func (a *app) imageGroup() *cobra.Command {
	return group("image", "Manage images", a.imageCommands(false)...)
}
