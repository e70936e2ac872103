package supervise

import (
	"strings"

	"mica/internal/environ"
	"mica/run/record"
)

// defaultPath is PATH where the image sets none, as Docker has it.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what a process of the container gets: Docker's defaults, then
// the image's and the user's variables, then HOME by the account.
func environment(cfg *record.Config, tty bool, home string, extra []string) []string {
	env := make([]string, 0, len(cfg.Container.Env)+len(extra)+5)
	env = append(env, defaultPath, "HOSTNAME="+cfg.Container.Hostname)
	if tty {
		env = append(env, "TERM=xterm")
	}
	env = append(env, "container=mica")
	for _, kv := range cfg.Container.Env {
		env = environ.Set(env, kv)
	}
	for _, kv := range extra {
		env = environ.Set(env, kv)
	}
	for _, kv := range env {
		if strings.HasPrefix(kv, "HOME=") {
			return env
		}
	}
	return append(env, "HOME="+home)
}
