package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"mica/run/record"
	"mica/run/volume"
)

// parseMounts reads -v, --mount and --tmpfs.
func parseMounts(volumes, mounts, tmpfs []string) ([]record.Mount, error) {
	var list []record.Mount
	for _, parse := range []struct {
		flag  string
		given []string
		read  func(string) (record.Mount, error)
	}{{"--volume", volumes, parseVolume}, {"--mount", mounts, parseMount}, {"--tmpfs", tmpfs, parseTmpfs}} {
		for _, s := range parse.given {
			m, err := parse.read(s)
			if err != nil {
				return nil, fmt.Errorf("%s %q: %w", parse.flag, s, err)
			}
			if m.Target == "" {
				return nil, fmt.Errorf("%s %q: it has no place in the container: add target=DST", parse.flag, s)
			}
			if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
				return nil, fmt.Errorf("%s %q: its place %q in the container must be absolute, and not /", parse.flag, s, m.Target)
			}
			m.Target = path.Clean(m.Target)
			list = append(list, m)
		}
	}
	return list, nil
}

// parseVolume reads [SRC:]DST[:OPTIONS]. A source that begins as no name does is a host path, made when missing as Docker
// does; any other is a volume.
func parseVolume(s string) (record.Mount, error) {
	parts := strings.Split(s, ":")
	m := record.Mount{Type: record.MountVolume}
	switch {
	case len(parts) == 1:
		m.Target = parts[0]
		return m, nil
	case len(parts) > 3 || parts[0] == "" || parts[1] == "":
		return m, errors.New("want SRC:DST[:ro]")
	}
	source := parts[0]
	m.Target = parts[1]
	if len(parts) == 3 {
		for opt := range strings.SplitSeq(parts[2], ",") {
			switch opt {
			case "ro", "readonly":
				m.ReadOnly = true
			case "O":
				m.Overlay = true
			case "nocopy":
				m.NoCopy = true
			case "noexec":
				m.NoExec = true
			case "nosuid":
				m.NoSuid = true
			case "nodev":
				m.NoDev = true
			case "rw", "z", "Z", "rprivate", "private", "rslave", "slave", "cached", "delegated", "consistent", "rbind", "bind", "exec", "suid", "dev":
			default:
				return m, fmt.Errorf("unknown option %q; want ro, O, nocopy, noexec, nosuid or nodev", opt)
			}
		}
	}
	if !strings.ContainsRune("/.~", rune(source[0])) {
		m.Volume = source
		err := cmp.Or(volume.CheckName(source), checkOverlay(&m))
		if err != nil && strings.Contains(source, "/") {
			err = fmt.Errorf("%w; a path of the host begins with / or ./", err)
		}
		return m, err
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return m, err
	}
	if err := os.MkdirAll(abs, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		if _, statErr := os.Stat(abs); statErr != nil {
			return m, err
		}
	}
	m.Type, m.Source = record.MountBind, abs
	return m, checkOverlay(&m)
}

// parseMount reads Docker's comma separated form.
func parseMount(s string) (record.Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return record.Mount{}, err
	}
	m := record.Mount{Type: record.MountVolume}
	source := ""
	var readOnly *bool // as the last word on it says; nil: none
	var options []string
	for _, field := range fields {
		key, value, has := strings.Cut(field, "=")
		on := true
		if has && slices.Contains([]string{"readonly", "ro", "rw", "readwrite", "volume-nocopy", "bind-nonrecursive"}, strings.ToLower(key)) {
			if on, err = strconv.ParseBool(value); err != nil {
				return m, fmt.Errorf("%s=%q: want true or false", key, value)
			}
		}
		switch strings.ToLower(key) {
		case "type":
			m.Type = record.MountType(value)
		case "source", "src":
			source = value
		case "target", "destination", "dst":
			m.Target = value
		case "readonly", "ro":
			readOnly = &on
		case "rw", "readwrite":
			on = !on
			readOnly = &on
		case "image-subpath", "subpath":
			m.Subpath = path.Clean("/" + value)[1:]
		case "volume-nocopy":
			m.NoCopy = on
		case "tmpfs-size":
			n, err := units.RAMInBytes(value)
			if err != nil {
				return m, fmt.Errorf("size %q: want one such as 64m", value)
			}
			options = append(options, fmt.Sprintf("size=%d", n))
		case "tmpfs-mode":
			if _, err := strconv.ParseUint(value, 8, 12); err != nil {
				return m, fmt.Errorf("mode %q: want an octal number", value)
			}
			options = append(options, "mode="+value)
		case "bind-propagation":
			if !slices.Contains([]string{"private", "rprivate", "slave", "rslave"}, value) {
				return m, fmt.Errorf("propagation %q: want private or rprivate, which is what there is, or slave or rslave", value)
			}
		case "consistency", "bind-nonrecursive", "volume-driver", "z", "relabel": // labels of SELinux stay as they are
		default:
			return m, fmt.Errorf("unknown key %q; want type, source, target, readonly, tmpfs-size or tmpfs-mode", key)
		}
	}
	if len(options) > 0 && m.Type != record.MountTmpfs {
		return m, errors.New("tmpfs-size and tmpfs-mode are for type=tmpfs")
	}
	if m.Subpath != "" && m.Type != record.MountImage {
		return m, errors.New("subpath is for type=image")
	}
	if readOnly != nil {
		m.ReadOnly = *readOnly
	}
	switch m.Type {
	case record.MountBind:
		if source == "" {
			return m, errors.New("a bind mount needs a source")
		}
		if m.Source, err = filepath.Abs(source); err != nil {
			return m, err
		}
		if _, err := os.Stat(m.Source); err != nil {
			return m, err
		}
	case record.MountVolume:
		if m.Volume = source; source != "" {
			if err := volume.CheckName(source); err != nil {
				return m, err
			}
		}
	case record.MountTmpfs:
		if source != "" {
			return m, errors.New("a tmpfs has no source")
		}
		m.Options, m.NoExec, m.NoSuid, m.NoDev = strings.Join(options, ","), true, true, true
	case record.MountImage:
		if source == "" {
			return m, errors.New("a mount of an image needs the image as its source")
		}
		m.Image = source
		if readOnly == nil {
			m.ReadOnly = true
		}
	default:
		return m, fmt.Errorf("type %q: want bind, volume, tmpfs or image", m.Type)
	}
	return m, nil
}

// checkOverlay refuses to put a layer over what is no directory of the host.
func checkOverlay(m *record.Mount) error {
	if !m.Overlay {
		return nil
	}
	if fi, err := os.Stat(m.Source); m.Type != record.MountBind || err != nil || !fi.IsDir() {
		return errors.New("the option O is for a directory of the host")
	}
	if m.ReadOnly {
		return errors.New("the options O and ro exclude each other: leave one out")
	}
	return nil
}

// parseTmpfs reads DST[:OPTIONS] with the options of mount(8).
func parseTmpfs(s string) (record.Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := record.Mount{Type: record.MountTmpfs, Target: target, NoExec: true, NoSuid: true, NoDev: true}
	var rest []string
	if options != "" {
		for opt := range strings.SplitSeq(options, ",") {
			key, _, _ := strings.Cut(opt, "=")
			switch key {
			case "ro":
				m.ReadOnly = true
			case "rw", "noexec", "nosuid", "nodev":
			case "exec":
				m.NoExec = false
			case "suid":
				m.NoSuid = false
			case "dev":
				m.NoDev = false
			case "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks":
				rest = append(rest, opt)
			default:
				return m, fmt.Errorf("unknown option %q", opt)
			}
		}
	}
	m.Options = strings.Join(rest, ",")
	return m, nil
}
