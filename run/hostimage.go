package run

import (
	"os"
	"strings"

	"mica/cow"
	"mica/layerstore"
	"mica/run/sandbox"
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

// hostLower is the machine's own root as a layer. What is mounted below it,
// such as a separate /home, is part of it: the layer is read through the machine's mounts.
func hostLower() cow.Lower { return cow.Lower{Dir: "/", Owners: cow.OwnersReal} }

// hostImageMounts hide what must not be seen through the machine's root: the
// store, which would hold itself, and the sockets and state of the machine's services.
func hostImageMounts(store string) []sandbox.Mount {
	return []sandbox.Mount{
		{Kind: sandbox.MountTmpfs, Target: "/run", Options: "mode=755", NoSuid: true, NoDev: true},
		storeCover(store),
	}
}

// storeCover hides the store at its path in a container.
func storeCover(target string) sandbox.Mount {
	return sandbox.Mount{Kind: sandbox.MountTmpfs, Target: target, Options: "mode=700,size=64k", NoSuid: true, NoDev: true, NoExec: true}
}
