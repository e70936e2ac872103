// Package cow gives a stack of read-only layers and one writable upper
// directory the semantics of a single tree: lookup, merged listings, copy-up,
// whiteouts, rename, hard links. It knows no FUSE; most of its tests drive it
// without a mount.
//
// # Words
//
// A [Node] is one inode of the union, however many names it has. It lives in
// one layer at a time: a lower one until it is changed, then the upper. What
// moves it is copy-up, which is recorded on disk as the upper object's origin
// (see origin.go). A directory node merges the directories of all layers in
// its stack; a dirent is one name of a merged listing.
//
// A place on disk is always a [dirRef], one directory of one layer, and one
// name in it. The reference knows its parent in the same layer, never its path
// in the union, so that renaming a directory rewrites nothing below it.
//
// # Locks
//
// The lock order is in docs/architecture.md.
// Methods whose names end in Locked say which lock they need.
package cow
