package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A fixture is a directory with generated content, made once per run by an agent:
//
//	l0 l1 ...    layers, topmost first, used as lower directories
//	flat         the merged tree as a plain directory, only where there is more than one layer
//	files, dirs  lists of the merged tree's regular files and directories, NUL-terminated, so that a cold
//	             workload knows the names without looking
//	catalogs     of the layers, made by mica at its first mount (as for the layers of an image when they are unpacked)
//	fixture.json what it was made from; written last
type fixture struct {
	dir    string
	layers int
}

// fixtureStamp is the content of fixture.json. A fixture whose stamp is another one's is made anew.
type fixtureStamp struct {
	Version int
	Name    string
	Layers  int
	Scale   scale
	Source  string
}

// fixtureVersion changes when the same name and scale give another tree.
const fixtureVersion = 3

const catalogsDir = "catalogs"

// builder makes the content of a fixture in dir and returns how many layers it has.
type builder func(dir string, t *task) (layers int, err error)

// fixtureBuilder returns the builder of a fixture.
func fixtureBuilder(name string) (builder, error) {
	if n, ok := strings.CutPrefix(name, "layers-"); ok {
		count, err := strconv.Atoi(n)
		if err != nil {
			return nil, fmt.Errorf("parse fixture name %q: %w", name, err)
		}
		return func(dir string, t *task) (int, error) { return count, buildLayers(dir, count, t.Scale.LayerFiles) }, nil
	}
	switch name {
	case "empty":
		return func(dir string, _ *task) (int, error) { return 1, os.Mkdir(filepath.Join(dir, "l0"), 0o755) }, nil
	case "root":
		return buildRoot, nil
	case "source":
		return buildSource, nil
	case "big":
		return buildBig, nil
	case "dir":
		return buildDir, nil
	case "many":
		return buildMany, nil
	case "fio":
		return buildFio, nil
	case "git":
		return buildGit, nil
	case "go":
		return buildGo, nil
	case "dpkg":
		return buildDpkg, nil
	case "container":
		return buildContainer, nil
	}
	return nil, fmt.Errorf("find fixture %q: there is none of that name", name)
}

// openFixture returns a fixture that was made before for the same task, or false.
func openFixture(dir, name string, t *task) (*fixture, bool) {
	raw, err := os.ReadFile(filepath.Join(dir, "fixture.json"))
	if err != nil {
		return nil, false
	}
	var st fixtureStamp
	if json.Unmarshal(raw, &st) != nil || st != stampOf(name, st.Layers, t) {
		return nil, false
	}
	return &fixture{dir: dir, layers: st.Layers}, true
}

// makeFixture makes a fixture at dir, replacing one of another shape.
func makeFixture(dir, name string, t *task) error {
	if _, ok := openFixture(dir, name, t); ok {
		return nil
	}
	if err := removeTree(dir); err != nil {
		return err
	}
	build, err := fixtureBuilder(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, catalogsDir), 0o755); err != nil {
		return fmt.Errorf("make fixture directory: %w", err)
	}
	n, err := build(dir, t)
	if err != nil {
		return errors.Join(fmt.Errorf("make fixture %s: %w", name, err), removeTree(dir))
	}
	raw, err := json.Marshal(stampOf(name, n, t))
	if err != nil {
		return fmt.Errorf("encode fixture stamp: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fixture.json"), raw, 0o644); err != nil {
		return fmt.Errorf("write fixture stamp: %w", err)
	}
	return nil
}

func stampOf(name string, layers int, t *task) fixtureStamp {
	st := fixtureStamp{Version: fixtureVersion, Name: name, Layers: layers, Scale: t.Scale}
	switch name {
	case "root", "container":
		st.Source = t.RootDir
	case "dpkg":
		st.Source = t.Deb
	}
	return st
}

// layerNames are the lower directories relative to the fixture, topmost first. They are short, so that 500 of them fit
// in the one page that mount(2) takes.
func (f *fixture) layerNames() []string {
	names := make([]string, f.layers)
	for i := range names {
		names[i] = "l" + strconv.Itoa(i)
	}
	return names
}

// flat is the merged tree as a plain directory.
func (f *fixture) flat() string {
	if f.layers == 1 {
		return filepath.Join(f.dir, "l0")
	}
	return filepath.Join(f.dir, "flat")
}

// list reads one of the fixture's name lists.
func (f *fixture) list(name string) ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read fixture list: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00"), nil
}

func writeList(dir, name string, paths []string) error {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(paths, "\x00")+"\x00"), 0o644); err != nil {
		return fmt.Errorf("write fixture list: %w", err)
	}
	return nil
}
