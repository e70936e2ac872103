package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// describe prints ranges for people.
func describe(ranges []IDRange) string {
	var parts []string
	for _, r := range ranges {
		if r.Size == 1 {
			parts = append(parts, fmt.Sprint(r.Inside))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.Inside, uint64(r.Inside)+uint64(r.Size)-1))
		}
	}
	return strings.Join(parts, ", ")
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// explainClone says why no user namespace could be made and who can change it.
func explainClone(err error) error {
	switch {
	case sysctl("user.max_user_namespaces") == "0":
		return fmt.Errorf("make user namespace: %w: the administrator has forbidden them; allow with: sysctl -w user.max_user_namespaces=28633", err)
	case sysctl("kernel.unprivileged_userns_clone") == "0":
		return fmt.Errorf("make user namespace: %w: plain users may not; allow with: sysctl -w kernel.unprivileged_userns_clone=1", err)
	case apparmorRestricts():
		return fmt.Errorf("make user namespace: %w: %s", err, apparmorFix)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fmt.Errorf("make namespaces: %w: too many namespaces or too deeply nested; see sysctl user.max_user_namespaces, user.max_mnt_namespaces and the others of user.*", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("make namespaces: %w: the kernel lacks one of the user, mount, pid, ipc and uts namespaces", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("make user namespace: %w: forbidden here, perhaps by the seccomp filter of an outer container or because this process is in a chroot", err)
	}
	return fmt.Errorf("start init: %w", err)
}

const apparmorFix = "AppArmor gives no privileges in user namespaces of programs without a profile; allow with: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"

func apparmorRestricts() bool {
	return os.Geteuid() != 0 && sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1"
}

// explain adds the likely cause to a failure of the setup.
func explain(err error) error {
	var se *StartError
	if errors.As(err, &se) || err == nil {
		return err
	}
	text := err.Error()
	if apparmorRestricts() && (strings.Contains(text, "permission denied") || strings.Contains(text, "operation not permitted")) {
		return fmt.Errorf("%w: %s", err, apparmorFix)
	}
	return err
}
