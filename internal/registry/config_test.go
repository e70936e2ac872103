package registry

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const testConfig = `
unqualified-search-registries = ["host.example"]

[[registry]]
prefix = "docker.io"
location = "hub.example/mirrored"

[[registry]]
location = "host.example"
insecure = true
[[registry.mirror]]
location = "near.example:5000"
[[registry.mirror]]
location = "far.example/cache"
pull-from-mirror = "digest-only"

[[registry]]
prefix = "host.example/team"
location = "team.example/x"

[[registry]]
prefix = "*.wild.example"
[[registry.mirror]]
location = "cache.example"

[[registry]]
prefix = "bad.example"
blocked = true

[[registry]]
location = "slash.example/"
blocked = true
`

// TestPlaces finds where repositories are by registries.conf.
func TestPlaces(t *testing.T) {
	home := atHome(t)
	dir := filepath.Join(home, ".config/containers")
	write(t, filepath.Join(dir, "registries.conf"), testConfig)
	write(t, filepath.Join(dir, "registries.conf.d/50.conf"), "[[registry]]\nprefix = \"over.example\"\nlocation = \"first.example\"\n")
	write(t, filepath.Join(dir, "registries.conf.d/60.conf"), "[[registry]]\nprefix = \"over.example\"\nlocation = \"last.example\"\n")
	for name, want := range map[string]string{
		"debian":                  "hub.example/mirrored/library/debian",
		"other.example/a":         "other.example/a",
		"host.example/a/b":        "near.example:5000/a/b, far.example/cache/a/b only digest, host.example/a/b insecure",
		"host.example/team/a":     "team.example/x/a",
		"host.example/teams":      "near.example:5000/teams, far.example/cache/teams only digest, host.example/teams insecure",
		"host.example.org/a":      "host.example.org/a",
		"a.b.wild.example:5000/c": "cache.example/c, a.b.wild.example:5000/c",
		"over.example/a":          "last.example/a",
		"bad.example/a":           "registries.conf blocks bad.example",
		"slash.example/a":         "registries.conf blocks slash.example",
	} {
		var got []string
		repo, err := Open(parse(t, name), Options{})
		if err != nil {
			got = []string{err.Error()}
		} else {
			for _, p := range repo.places {
				text := p.String()
				if p.insecure {
					text += " insecure"
				}
				if p.only != "" {
					text += " only " + p.only
				}
				got = append(got, text)
			}
		}
		if joined := strings.Join(got, ", "); joined != want {
			t.Errorf("%s is at %s; want %s", name, joined, want)
		}
	}
	for text, want := range map[string]string{
		"[[registry]]\nlocation = 5\n":                          "registries.conf",
		"[[registry]]\nlocation = \"http://host.example\"\n":    `"http://host.example" is a URL`,
		"[registries.block]\nregistries = [\"host.example\"]\n": "version 1",
		"[[registry]]\nprefix = \"https://host.example\"\n":     "is a URL",
		"[[registry]]\nlocation = \"/\"\nblocked = true\n":      "has neither prefix nor location",
	} {
		write(t, filepath.Join(dir, "registries.conf"), text)
		if _, err := Open(parse(t, "debian"), Options{}); err == nil || !strings.Contains(err.Error(), "registries.conf") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

// TestMirror asks mirrors first, and the place itself when they fail.
func TestMirror(t *testing.T) {
	home := atHome(t)
	own, mirror := serving(t, `{"at":"home"}`), serving(t, `{"at":"mirror"}`)
	conf := fmt.Sprintf("[[registry]]\nprefix = \"host.example\"\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", own.Host(), mirror.Host())
	write(t, filepath.Join(home, ".config/containers/registries.conf"), conf)
	for _, want := range []string{`{"at":"mirror"}`, `{"at":"home"}`} {
		if got, err := get(t, "host.example/app", Options{}); err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
		mirror.Close()
	}
}
