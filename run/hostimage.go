package run

import (
	"os"
	"slices"
	"strings"

	"mica/layerstore"
)

// hostImageConfig is the configuration of the built-in image "host".
func hostImageConfig() layerstore.ContainerConfig {
	shell := os.Getenv("SHELL")
	if !strings.HasPrefix(shell, "/") {
		shell = "/bin/sh"
	}
	c := layerstore.ContainerConfig{Cmd: []string{shell}}
	for _, key := range []string{"PATH", "LANG", "LC_ALL"} {
		if v, ok := os.LookupEnv(key); ok {
			if key == "PATH" {
				v = rootPath(v)
			}
			c.Env = append(c.Env, key+"="+v)
		}
	}
	return c
}

// rootPath adds to a PATH where the programs of an administrator are, which the user is in the container: dpkg insists on
// some of them.
func rootPath(path string) string {
	dirs := strings.Split(path, ":")
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, ":")
}
