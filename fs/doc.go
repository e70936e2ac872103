// Package fs serves a union (package cow) to the kernel over FUSE: it keeps the
// node ids, decides what the kernel may cache, and is the one place where
// errors become error numbers.
//
// Nobody but the union changes its layers and its upper directory, so the
// kernel may keep for good whatever it has been told: entries, absent names,
// attributes, symlinks, listings and pages. OPEN, OPENDIR and FLUSH are
// answered with ENOSYS, after which the kernel never sends them. What is left
// are the requests that change something or ask for the first time.
//
// The types and constants of the protocol are go-fuse's; the loop that reads
// requests is our own, since it runs for every one of them.
package fs
