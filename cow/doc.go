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
// # Lock order
//
//	FS.largeCopy               one whole copy of a large file
//	FS.capsMu                  pages of one file whose capabilities the disk takes
//	  FS.tree                  shared: lookups, listings, finding descriptors
//	                           exclusive: everything that changes names or places
//	    dirState.mu            a directory's listing and the nodes of its entries
//	      FS.linkMu            nodes by backing inode; file states
//	        partly.mu          block map of one partly copied file
//	          FS.dirtyMu       copies that are not synced yet
//	          fdCache.mu       open descriptors
//	      prefetcher.mu        what is to be read ahead
//	      walk.mu              where a client reads files in order
//	    capTalk.mu             what the kernel last said of a file's capabilities
//
// No lock is held over a read or write of file content except partly.mu and
// FS.capsMu, nor over a sync of content, but where a write must wait for what
// was before it.
// Methods whose names end in Locked say which lock they need.
package cow
