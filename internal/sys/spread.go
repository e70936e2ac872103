package sys

import "golang.org/x/sys/unix"

// topDirFlag is FS_TOPDIR_FL of linux/fs.h.
const topDirFlag = 0x20000

// Spread asks the filesystem to place the directories that are made in a
// directory apart from each other, as those of /home are (chattr +T). On ext4
// each then has a block group of its own, chosen by its name. In one group, the
// search for an inode passes over all that were deleted there in the last
// seconds, one by one: after the removal of a tree, new files cost thirty times
// as much. It helps where each name is new. Other filesystems have no need of
// it, and nothing depends on it.
func Spread(fd int) {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return
	}
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&topDirFlag != 0 {
		return
	}
	_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|topDirFlag)
}
