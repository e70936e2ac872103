// Package version says which build this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// number is the release; the build may set it with -ldflags "-X mica/internal/version.number=...".
var number = "0.1.0"

// Info describes the build.
type Info struct {
	Version, Commit, Built, Go, OS, Arch string
	Modified                             bool
}

// Short is the version number.
func Short() string { return number }

// Get describes this build.
func Get() Info {
	i := Info{Version: number, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return i
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.time":
			i.Built = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		}
	}
	return i
}

// String is the version number with the commit that it was built from.
func (i Info) String() string {
	switch {
	case i.Commit == "":
		return i.Version
	case i.Modified:
		return fmt.Sprintf("%s (%.12s, modified)", i.Version, i.Commit)
	}
	return fmt.Sprintf("%s (%.12s)", i.Version, i.Commit)
}
