package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mountServed mounts the MountFUSE with the index n and hands its descriptor out. What is mounted below it later already
// asks its server.
func (b *builder) mountServed(n int, m *Mount) error {
	if m.Subpath != "" {
		return b.mountPart(n, m)
	}
	point, err := target(b.root, m.Target, true)
	if err != nil {
		return err
	}
	defer unix.Close(point)
	return b.mountServedAt(point, n, m)
}

func (b *builder) mountServedAt(point, n int, m *Mount) error {
	if err := b.mountFuse(fdPath(point), n+1, uintptr(m.attributes()), "default_permissions,allow_other"); err != nil {
		return fmt.Errorf("mount over %s: %w", m.Target, err)
	}
	return nil
}

// mountPart is mountServed that shows a part alone. The whole is mounted in /dev until that part has a mount of its own.
func (b *builder) mountPart(n int, m *Mount) error {
	fail := func(err error) error { return fmt.Errorf("mount %s over %s: %w", m.Subpath, m.Target, err) }
	dev, err := inRoot(b.root, "/dev")
	if err != nil {
		return fail(err)
	}
	defer unix.Close(dev)
	const aside = ".mounting"
	if err := unix.Mkdirat(dev, aside, 0o700); err != nil {
		return fail(err)
	}
	defer unix.Unlinkat(dev, aside, unix.AT_REMOVEDIR)
	point, err := inRoot(dev, aside)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(point)
	if err := b.mountServedAt(point, n, m); err != nil {
		return err
	}
	whole, err := inRoot(dev, aside)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(whole)
	part, err := inRoot(whole, m.Subpath)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(part)
	var st unix.Stat_t
	if err := unix.Fstat(part, &st); err != nil {
		return fail(err)
	}
	fd, err := unix.OpenTree(part, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fail(err)
	}
	if err := b.place(clone{fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, m.Target); err != nil {
		return err // which ends the sandbox, and the mount with it; its server's end must not come first
	}
	return unix.Unmount(fdPath(whole), unix.MNT_DETACH)
}
