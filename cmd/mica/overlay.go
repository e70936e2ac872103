package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"mica/fs/dropin"
)

// newOverlayCommand makes `mica overlay`, which is also what mica does when it
// is called by the name of fuse-overlayfs.
func newOverlayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "overlay [flags] -o OPTIONS DIR",
		Short: "Mount directories as one tree, with the command line of fuse-overlayfs",
		Long: `Mount a stack of directories, with an optional writable one on top, as one tree.

Arguments and options are those of fuse-overlayfs; a link of that name to mica
takes its place, and so does mica itself as mount_program of Podman and Buildah
(storage.conf). The command returns when the mount is there; 'fusermount3 -u DIR'
takes it away.

Options (-o, separated by commas):
  lowerdir=A[:B...]     read-only directories, topmost first; '\:' is a colon
  upperdir=U,workdir=W  where changes go; both on one filesystem
  volatile              leave out every sync
  uidmapping=, gidmapping=, squash_to_root, squash_to_uid=, squash_to_gid=
  xattr_permissions=0|1|2, noxattrs=1, static_nlink, timeout=SECONDS, writeback=1
  allow_other, allow_root, ro, rw, (no)suid, (no)dev, (no)exec, (no)atime, context=
mica's own:
  copyup=full|blocks    copy whole files up (default), or blocks as they are written
  redirect_dir=on|off   rename lower directories by a mark in the upper, or copy (default)
  owners=real|stored    keep owners in the inodes (default) or in attributes
  passthrough           let the kernel read and write content itself, for which it
                        asks at every open; needs root
  catalogs=DIR          keep the listings of lower directories in files there, made at
                        the first mount, which makes first looks faster; what lies in
                        the lower directories must never change then
  stats=FILE            write request counts on unmount and on SIGUSR1
Flags: -f stay in the foreground, -d print requests, -V version.`,
		Example: `  mica overlay -o lowerdir=base,upperdir=up,workdir=work merged
  mica overlay -o lowerdir=patch:base view`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := dropin.Parse(args)
			if err != nil {
				return err
			}
			for _, warning := range inv.Warnings {
				fmt.Fprintln(os.Stderr, "mica: "+warning)
			}
			switch {
			case inv.Help:
				return cmd.Help()
			case inv.Version:
				fmt.Fprintln(stdout, "fuse-overlayfs: version 1.14 (mica)")
				return nil
			}
			inv.Serve.Awake = true
			return dropin.Run(inv, args)
		},
	}
}
