package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"oras.land/oras-go/v2/registry"

	"mica/internal/imageref"
)

// config is registries.conf, version 2 of its format, as far as it says where repositories are.
type config struct {
	Registries []registryEntry `toml:"registry"`
	V1         map[string]any  `toml:"registries"` // what version 1 has: refused, as it may block registries
}

type registryEntry struct {
	Prefix             string        `toml:"prefix"` // empty: Location
	Location           string        `toml:"location"`
	Insecure           bool          `toml:"insecure"`
	Blocked            bool          `toml:"blocked"`
	MirrorByDigestOnly bool          `toml:"mirror-by-digest-only"`
	Mirrors            []mirrorEntry `toml:"mirror"`
}

type mirrorEntry struct {
	Location       string `toml:"location"`
	Insecure       bool   `toml:"insecure"`
	PullFromMirror string `toml:"pull-from-mirror"` // "all", "digest-only", "tag-only"
}

// readConfig reads the user's registries.conf or else the machine's, and what registries.conf.d adds to it.
func readConfig() (*config, error) {
	const system = "/etc/containers"
	dirs := []string{system}
	main := filepath.Join(system, "registries.conf")
	if dir := configDir(); dir != "" {
		dirs = append(dirs, dir)
		if own := filepath.Join(dir, "registries.conf"); exists(own) {
			main = own
		}
	}
	if path := os.Getenv("CONTAINERS_REGISTRIES_CONF"); path != "" {
		main = path
	}
	files := []string{main}
	for _, dir := range dirs {
		more, err := filepath.Glob(filepath.Join(dir, "registries.conf.d", "*.conf")) // sorted
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	conf := new(config)
	for _, file := range files {
		if err := conf.read(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return conf, nil
}

// configDir is ~/.config/containers, or "".
func configDir() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "containers")
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// read adds what a file says; its entries replace earlier ones of the same prefix.
func (c *config) read(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var more config
	if err := toml.Unmarshal(data, &more); err != nil {
		return err
	}
	if more.V1 != nil {
		return errors.New("[registries.*] is of version 1 of this format, which is not supported: use [[registry]]")
	}
	for _, e := range more.Registries {
		if err := e.clean(); err != nil {
			return err
		}
		if e.Prefix == "" {
			e.Prefix = e.Location
		}
		if e.Prefix == "" || e.Location == "" && !strings.HasPrefix(e.Prefix, "*.") {
			e.Location = e.Prefix // a prefix alone stands for itself
		}
		if e.Prefix == "" {
			return errors.New("a [[registry]] has neither prefix nor location")
		}
		c.Registries = slices.DeleteFunc(c.Registries, func(old registryEntry) bool { return old.Prefix == e.Prefix })
		c.Registries = append(c.Registries, e)
	}
	return nil
}

// clean takes the slashes at the end off what the entry names, and refuses URLs.
func (e *registryEntry) clean() error {
	names := []*string{&e.Prefix, &e.Location}
	for i := range e.Mirrors {
		names = append(names, &e.Mirrors[i].Location)
	}
	for _, name := range names {
		if strings.Contains(*name, "://") {
			return fmt.Errorf("%q is a URL: name the host, and the path, only", *name)
		}
		*name = strings.TrimRight(*name, "/")
	}
	return nil
}

// places lists where a repository is: mirrors, and then the place itself.
func (c *config) places(ref imageref.Ref) ([]place, error) {
	var entry registryEntry
	for _, e := range c.Registries {
		if e.matches(ref.Full) && len(e.Prefix) >= len(entry.Prefix) {
			entry = e
		}
	}
	if entry.Blocked {
		return nil, fmt.Errorf("registries.conf blocks %s", entry.Prefix)
	}
	var list []place
	for _, m := range entry.Mirrors {
		p, err := newPlace(entry.moved(ref.Full, m.Location), m.Insecure)
		if err != nil {
			return nil, err
		}
		p.mirror = true
		switch {
		case m.PullFromMirror == "digest-only" || m.PullFromMirror == "" && entry.MirrorByDigestOnly:
			p.only = "digest"
		case m.PullFromMirror == "tag-only":
			p.only = "tag"
		}
		list = append(list, p)
	}
	p, err := newPlace(entry.moved(ref.Full, entry.Location), entry.Insecure)
	return append(list, p), err
}

// matches tells whether the entry is about a repository: by its host, by the beginning of its path, or by *.DOMAIN.
func (e *registryEntry) matches(full string) bool {
	if domain, ok := strings.CutPrefix(e.Prefix, "*"); ok {
		host, _, _ := strings.Cut(full, "/")
		name, _, _ := strings.Cut(host, ":")
		return strings.HasSuffix(host, domain) || strings.HasSuffix(name, domain)
	}
	rest, ok := strings.CutPrefix(full, e.Prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// moved is the repository with another place for the prefix.
func (e *registryEntry) moved(full, location string) string {
	if location == "" {
		return full
	}
	if strings.HasPrefix(e.Prefix, "*") {
		_, path, _ := strings.Cut(full, "/")
		return location + "/" + path
	}
	return location + strings.TrimPrefix(full, e.Prefix)
}

func newPlace(full string, insecure bool) (place, error) {
	ref, err := registry.ParseReference(full)
	if err != nil {
		return place{}, fmt.Errorf("%q is no repository of a registry: %w", full, err)
	}
	return place{Reference: ref, insecure: insecure}, nil
}
