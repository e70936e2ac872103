package run

import "testing"

// TestRootPath: who is root in a container finds the programs of root, wherever the user looks for others.
func TestRootPath(t *testing.T) {
	for path, want := range map[string]string{
		"/usr/local/bin:/usr/bin:/bin":      "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
		"/usr/sbin:/home/user/bin:/usr/bin": "/usr/sbin:/home/user/bin:/usr/bin:/usr/local/sbin:/sbin",
		"/usr/local/sbin:/usr/sbin:/sbin":   "/usr/local/sbin:/usr/sbin:/sbin",
	} {
		if got := rootPath(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
