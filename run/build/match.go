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
		return matchBelow(ctx, src, ".", pattern, false)
	}
	before, after, ok := strings.Cut(pattern, "/./")
	if !ok {
		return matchBelow(ctx, src, ".", pattern, true)
	}
	dirs, err := expand(ctx, src, ".", before, true)
	if err != nil {
		return nil, err
	}
	var items []item
	for _, dir := range dirs {
		found, err := matchBelow(ctx, src, dir, after, true)
		if err != nil && len(dirs) == 1 {
			return nil, err
		}
		items = append(items, found...)
	}
	return items, nil
}

// matchBelow is match of a pattern that counts from a directory, and so do the paths that items keep.
func matchBelow(ctx context.Context, src source, dir, pattern string, parents bool) ([]item, error) {
	paths, err := expand(ctx, src, dir, pattern, parents)
	if err != nil {
		return nil, err
	}
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

// expand lists the paths that a path or pattern stands for, one at least.
func expand(ctx context.Context, src source, dir, pattern string, anyDepth bool) ([]string, error) {
	clean := relative(path.Clean("/" + pattern))
	if !hasMeta(clean) {
		return []string{path.Join(dir, clean)}, nil
	}
	paths, err := glob(ctx, src, dir, clean, anyDepth)
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("nothing matches %s", pattern)
	}
	return paths, err
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

func hasMeta(p string) bool { return strings.ContainsAny(p, `*?[\`) }

// glob lists the paths in a directory that match a pattern, sorted. Where any depth may be meant, "**" stands for directories at any depth.
func glob(ctx context.Context, src source, dir, pattern string, anyDepth bool) ([]string, error) {
	paths := []string{dir}
	for part := range strings.SplitSeq(pattern, "/") {
		var next []string
		for _, dir := range paths {
			if part == "**" && anyDepth {
				all, err := directories(ctx, src, dir)
				if err != nil {
					return nil, err
				}
				next = append(next, all...)
				continue
			}
			if !hasMeta(part) {
				if _, _, err := src.find(ctx, path.Join(dir, part)); err == nil {
					next = append(next, path.Join(dir, part))
				}
				continue
			}
			if _, st, err := src.find(ctx, dir); err != nil || !st.IsDir() {
				continue
			}
			list, err := src.list(ctx, dir)
			if err != nil {
				return nil, err
			}
			for _, st := range list {
				ok, err := path.Match(part, st.Name)
				if err != nil {
					return nil, fmt.Errorf("pattern %q: %w", pattern, err)
				}
				if ok {
					next = append(next, path.Join(dir, st.Name))
				}
			}
		}
		paths = next
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
