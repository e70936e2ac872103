package build

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// match finds what a path or pattern stands for. With parents items keep their paths, from where the pattern has "/./".
func match(ctx context.Context, src source, pattern string, parents bool) ([]item, error) {
	if !parents {
		g := globber{src: src}
		return g.items(ctx, ".", pattern, false)
	}
	before, after, ok := strings.Cut(pattern, "/./")
	g := globber{src: src, anyDepth: true}
	if !ok {
		return g.items(ctx, ".", pattern, true)
	}
	dirs, err := g.paths(ctx, ".", before)
	if err != nil {
		return nil, err
	}
	g.optional = hasWildcard(before)
	var items []item
	for _, dir := range dirs {
		found, err := g.items(ctx, dir, after, true)
		if err != nil {
			return nil, err
		}
		items = append(items, found...)
	}
	return items, nil
}

// globber finds what patterns stand for. Of a pattern the names before its first wildcard must be there; that nothing matches
// the rest is no error, as BuildKit has it.
type globber struct {
	src      source
	anyDepth bool // "**" stands for directories at any depth
	optional bool // nothing of the pattern must be there: it goes on from what matched another
}

// items is match of a pattern that counts from a directory, and so do the paths that items keep.
func (g *globber) items(ctx context.Context, dir, pattern string, parents bool) ([]item, error) {
	paths, err := g.paths(ctx, dir, pattern)
	if err != nil {
		return nil, err
	}
	src := g.src
	var items []item
	for _, p := range paths {
		at, fi, err := src.find(ctx, p)
		if err != nil {
			return nil, err
		}
		it := item{source: p, name: path.Base(p), isDir: fi.IsDir(), pack: func(ctx context.Context, fn entryFunc) error { return src.pack(ctx, at, fn) }}
		if it.isDir {
			it.name = "."
			it.part = func(ctx context.Context, name string, fn entryFunc) error {
				return src.pack(ctx, path.Join(at, name), fn)
			}
		}
		if parents {
			it.name = p
			if dir != "." {
				it.name = below(dir, p)
			}
			if it.above, err = modesAbove(ctx, src, p, it.name); err != nil {
				return nil, err
			}
		}
		items = append(items, it)
	}
	return items, nil
}

// modesAbove gives the modes of the directories above p that are kept, by their names in the destination.
func modesAbove(ctx context.Context, src source, p, name string) (map[string]uint32, error) {
	modes := make(map[string]uint32)
	for p, name = path.Dir(p), path.Dir(name); name != "."; p, name = path.Dir(p), path.Dir(name) {
		_, st, err := src.find(ctx, p)
		if err != nil {
			return nil, err
		}
		modes[name] = st.Mode & 0o7777
	}
	return modes, nil
}

// hasMeta tells whether a part of a pattern is more than a name.
func hasMeta(p string) bool { return strings.ContainsAny(p, `*?[\`) }

// hasWildcard tells whether a pattern may match several names, or none.
func hasWildcard(p string) bool {
	escaped := false
	for _, c := range p {
		if !escaped && strings.ContainsRune("*?[", c) {
			return true
		}
		escaped = c == '\\' && !escaped
	}
	return false
}

// paths lists what a pattern stands for in a directory, sorted.
func (g *globber) paths(ctx context.Context, dir, pattern string) ([]string, error) {
	found, optional, done := []string{dir}, g.optional, dir
	for part := range strings.SplitSeq(relative(path.Clean("/"+pattern)), "/") {
		done = path.Join(done, part)
		optional = optional || hasWildcard(part)
		var next []string
		for _, dir := range found {
			paths, err := g.step(ctx, dir, part, optional)
			if err != nil {
				return nil, err
			}
			next = append(next, paths...)
		}
		if len(next) == 0 && !optional {
			return nil, notThere(done)
		}
		found = next
	}
	return found, nil
}

// step lists what one part of a pattern stands for in a directory.
func (g *globber) step(ctx context.Context, dir, part string, optional bool) ([]string, error) {
	if part == "**" && g.anyDepth {
		return directories(ctx, g.src, dir)
	}
	if !hasMeta(part) {
		p := path.Join(dir, part)
		if _, _, err := g.src.find(ctx, p); err != nil {
			if optional && isNotThere(err) {
				err = nil
			}
			return nil, err
		}
		return []string{p}, nil
	}
	_, st, err := g.src.find(ctx, dir)
	if isNotThere(err) || err == nil && !st.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := g.src.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, st := range list {
		ok, err := path.Match(part, st.Name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", part, err)
		}
		if ok {
			paths = append(paths, path.Join(dir, st.Name))
		}
	}
	return paths, nil
}

// directories lists a directory and all below it, sorted.
func directories(ctx context.Context, src source, dir string) ([]string, error) {
	all := []string{dir}
	list, err := src.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, st := range list {
		if !st.IsDir() {
			continue
		}
		below, err := directories(ctx, src, path.Join(dir, st.Name))
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}
