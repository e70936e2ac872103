// Package dropin gives a union the command line of fuse-overlayfs, so that
// programs which start that (Podman, Buildah) can start mica instead: the same
// arguments and options, an upper directory that they can read, and a mount
// that is there when the command returns.
//
// It also takes mica's own options, for those who call it by its own name:
//
//	copyup=full|blocks   whole files (default), or blocks as they are written
//	redirect_dir=on|off  rename directories by a mark in the upper, or copy
//	owners=real|stored   where the owners are kept
//	catalogs=DIR         keep the listings of lower directories, which must not change, in files there
//	stats=FILE           write request counts on unmount and on SIGUSR1
package dropin
