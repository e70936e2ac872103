package run

import (
	"os"
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
			c.Env = append(c.Env, key+"="+v)
		}
	}
	return c
}
