package fs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/internal/testenv"
	"mica/internal/turns"
)

// serveVariable tells this program to serve the union that it describes.
const serveVariable = "MICA_TEST_SERVE"

// TestMain lets all tests run as a plain user, who mounts by fusermount3. Each
// mount has a server process of its own: a process that uses its own mount
// blocks in calls that the runtime takes for short ones.
func TestMain(m *testing.M) {
	turns.AwakeMain()
	if job := os.Getenv(serveVariable); job != "" {
		if err := serveMount(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if path := os.Getenv(mapVariable); path != "" {
		if err := writeMapped(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if path := os.Getenv(execVariable); path != "" {
		fmt.Fprintln(os.Stderr, execDirty(path))
		os.Exit(1)
	}
	os.Exit(testenv.MainAsRoot(m))
}

// service is what a server process is to do.
type service struct {
	Dir    string
	Union  cow.Config
	Direct bool // writeback is off
	Pass   bool // passthrough is on
	Stats  string
}

// serveMount mounts and serves; it closes standard output when the mount
// answers, and abandons it at SIGUSR1.
func serveMount(job string) error {
	var do service
	if err := json.Unmarshal([]byte(job), &do); err != nil {
		return err
	}
	unix.Umask(0)
	u, err := cow.Open(do.Union)
	if err != nil {
		return err
	}
	dev, err := fs.Mount(do.Dir, fs.MountOptions{Source: "mica", Subtype: "mica", Permissions: true, Flags: unix.MS_NOSUID | unix.MS_NODEV})
	if err != nil {
		return errors.Join(err, u.Close())
	}
	s := fs.New(u, fs.Options{Permissions: true, Writeback: !do.Direct, Passthrough: do.Pass, Awake: true})
	s.ProcessesAt("/proc")
	go func() {
		<-s.Ready()
		os.Stdout.Close()
	}()
	unused := make(chan os.Signal, 1)
	signal.Notify(unused, unix.SIGUSR1)
	go func() {
		<-unused
		s.AbandonWhenIdle(50 * time.Millisecond)
	}()
	err = s.Serve(dev)
	if do.Stats != "" {
		err = errors.Join(err, s.WriteStats(do.Stats))
	}
	return errors.Join(err, u.Close())
}

// epoch is a time that no test takes for now.
var epoch = time.Unix(1_000_000_000, 0)

// mount is a union that a test has mounted.
type mount struct {
	t      *testing.T
	dir    string
	cfg    cow.Config
	pass   bool
	stats  string    // file for the request counts
	server *exec.Cmd // nil: not mounted
	stderr bytes.Buffer
}

// lowers makes n empty directories.
func lowers(t *testing.T, n int) []string {
	t.Helper()
	base := tempDir(t)
	var out []string
	for i := range n {
		d := filepath.Join(base, "lower", string(rune('a'+i/26/26)), string(rune('a'+i/26%26)), string(rune('a'+i%26)))
		must(t, os.MkdirAll(d, 0o755))
		out = append(out, d)
	}
	return out
}

// tempDir is t.TempDir on a disk, which takes attributes and keeps times as a
// user's files have them; it is removed whatever modes it ends with.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mica-fs")
	must(t, err)
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(p, 0o700)
			}
			return nil
		})
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// real are layers that keep owners in their inodes, topmost first.
func real(dirs ...string) []cow.Lower {
	var out []cow.Lower
	for _, d := range dirs {
		out = append(out, cow.Lower{Dir: d, Owners: cow.OwnersReal})
	}
	return out
}

// mountUnion mounts a union, with a new upper directory unless cfg has one. It
// is unmounted at the end of the test.
func mountUnion(t *testing.T, cfg cow.Config) *mount {
	t.Helper()
	dir := filepath.Join(tempDir(t), "merged")
	must(t, os.Mkdir(dir, 0o755))
	return mountAt(t, dir, cfg)
}

func mountAt(t *testing.T, dir string, cfg cow.Config) *mount {
	t.Helper()
	if cfg.Upper == "" {
		base := tempDir(t)
		cfg.Upper, cfg.Work = filepath.Join(base, "upper"), filepath.Join(base, "work")
		must(t, os.Mkdir(cfg.Upper, 0o755))
		must(t, os.Mkdir(cfg.Work, 0o755))
		cfg.UpperOwners = cow.OwnersReal
	}
	m := &mount{t: t, dir: dir, cfg: cfg}
	m.start()
	t.Cleanup(m.close)
	return m
}

func (m *mount) start() {
	m.t.Helper()
	job, err := json.Marshal(service{Dir: m.dir, Union: m.cfg, Direct: true, Pass: m.pass, Stats: m.stats})
	must(m.t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveVariable+"="+string(job))
	cmd.Stderr = &m.stderr
	out, err := cmd.StdoutPipe()
	must(m.t, err)
	must(m.t, cmd.Start())
	m.server = cmd
	if _, err := io.Copy(io.Discard, out); err != nil {
		m.t.Fatal(err)
	}
	var st unix.Statfs_t
	must(m.t, unix.Statfs(m.dir, &st))
	if st.Type != unix.FUSE_SUPER_MAGIC {
		m.server = nil
		err := cmd.Wait()
		m.t.Fatalf("the server ended without a mount: %v\n%s", err, m.stderr.String())
	}
}

// stop unmounts and waits for the server.
func (m *mount) stop() {
	m.t.Helper()
	must(m.t, fs.Unmount(m.dir))
	if err := m.server.Wait(); err != nil || m.stderr.Len() > 0 {
		m.t.Fatalf("serve: %v\n%s", err, m.stderr.String())
	}
	m.server = nil
}

// kill ends the server without notice and takes its mount away.
func (m *mount) kill() {
	m.t.Helper()
	must(m.t, m.server.Process.Kill())
	_ = m.server.Wait() // killed, as it should be
	m.server = nil
	must(m.t, fs.Unmount(m.dir))
}

func (m *mount) close() {
	m.t.Helper()
	if m.server != nil {
		m.stop()
	}
}

func (m *mount) remount() {
	m.t.Helper()
	m.stop()
	m.start()
}

func (m *mount) upper() string { return m.cfg.Upper }
