// Package environ changes lists of environment variables ("NAME=value"), in which each name is to stand once.
package environ

import "strings"

// Set replaces or adds one variable, in place where it can.
func Set(env []string, kv string) []string {
	name, _, _ := strings.Cut(kv, "=")
	for i, have := range env {
		if n, _, _ := strings.Cut(have, "="); n == name {
			env[i] = kv
			return env
		}
	}
	return append(env, kv)
}
