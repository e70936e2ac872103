package build

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// scope holds the build arguments that are declared somewhere. One without a value is nil.
type scope map[string]*string

// platformScope has the arguments that are declared before the first stage without being named there.
func platformScope() scope {
	sc := make(scope)
	for _, side := range []string{"BUILD", "TARGET"} {
		for name, value := range map[string]string{
			"PLATFORM": runtime.GOOS + "/" + runtime.GOARCH, "OS": runtime.GOOS, "ARCH": runtime.GOARCH, "VARIANT": "",
		} {
			sc[side+name] = &value
		}
	}
	return sc
}

// list gives the arguments that have a value, as NAME=VALUE, sorted.
func (sc scope) list() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(sc)) {
		if sc[name] != nil {
			list = append(list, name+"="+*sc[name])
		}
	}
	return list
}

func (sc scope) env() shell.EnvGetter { return shell.EnvsFromSlice(sc.list()) }

// declare enters an argument: with the value that the user gives, or its default, or that which it has in the scope
// outside, which may be nil, or else the one that it has already.
func (b *builder) declare(sc, outside scope, a instructions.KeyValuePairOptional) {
	value := a.Value
	if given, ok := b.opt.Args[a.Key]; ok {
		b.used[a.Key] = true
		value = &given
	} else if value == nil {
		value = cmp.Or(outside[a.Key], sc[a.Key])
	}
	sc[a.Key] = value
}

// isProxy tells whether an argument needs no declaration. It changes nothing that is built, and is in no key.
func isProxy(name string) bool {
	proxy, ok := strings.CutSuffix(strings.ToLower(name), "_proxy")
	return ok && slices.Contains([]string{"http", "https", "ftp", "no", "all"}, proxy)
}

// sortedPairs lists a map as NAME, VALUE.
func sortedPairs(m map[string]string) (list []instructions.KeyValuePair) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, instructions.KeyValuePair{Key: k, Value: m[k]})
	}
	return list
}
