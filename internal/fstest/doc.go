// Package fstest tests a union filesystem against a plain directory.
//
// A [Scene] is a random stack of layers together with the tree that a union of
// them must show, which a small model of its own computes ([Merge]). A run
// ([Run]) writes the layers to disk for the union and the merged tree to a
// plain directory, then does the same random operations on both in lock-step:
// results and error numbers must agree after each one, whole trees every few
// operations, and inode numbers must be unique and stay what they are through
// copy-up, rename and remount. A run depends on its seed alone. A run that
// finds a difference is cut down by [Shrink] to the few layers' objects and
// operations that show it.
//
// The union is anything with the [Union] interface, so the same runs drive
// mica, and kernel overlayfs and fuse-overlayfs as second opinions. The
// program in internal/fstest/hunt runs seeds from the command line.
package fstest
