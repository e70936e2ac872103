package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// serverFunc serves, and has nothing that would have to be written back or waited for.
type serverFunc func(dev *os.File) error

func (f serverFunc) Serve(dev *os.File) error    { return f(dev) }
func (serverFunc) WriteBack([]uint64) error      { return nil }
func (serverFunc) Drain(time.Duration)           {}
func (serverFunc) AbandonWhenIdle(time.Duration) {}

// serveHost serves the host's root as a FUSE filesystem, passing everything through.
func serveHost(dev *os.File) error {
	defer dev.Close()
	root, err := fs.NewLoopbackRoot("/")
	if err != nil {
		return err
	}
	server, err := fuse.NewServer(fs.NewNodeFS(root, &fs.Options{}), fmt.Sprintf("/dev/fd/%d", dev.Fd()), &fuse.MountOptions{})
	if err != nil {
		return err
	}
	server.Serve()
	return nil
}

func TestFuseRoot(t *testing.T) {
	cfg := sh("grep ' / / ' /proc/self/mountinfo; cat /etc/passwd | head -1")
	cfg.Root = Root{Server: serverFunc(serveHost), FUSEOptions: "allow_other,default_permissions"}
	out, st := output(t, cfg)
	if st.Code != 0 || !strings.Contains(out, "fuse.mica") || !strings.Contains(out, "root:") {
		t.Errorf("status %+v, output:\n%s", st, out)
	}
}

func TestServerFailure(t *testing.T) {
	cfg := sh("sleep 1000")
	want := errors.New("disk on fire")
	cfg.Root = Root{FUSEOptions: "allow_other", Server: serverFunc(func(dev *os.File) error {
		dev.Close()
		return want
	})}
	if _, err := Start(t.Context(), cfg); err == nil {
		t.Error("a root that fails at once: no error")
	}
}

func TestFuseMount(t *testing.T) {
	cfg := sh("head -1 /mnt/etc/passwd; grep ' /mnt ' /proc/self/mountinfo")
	cfg.Mounts = []Mount{
		{Kind: MountFUSE, Target: "/mnt", NoSuid: true, Server: serverFunc(serveHost)},
		{Kind: MountBind, Source: "/", Target: "/mnt/tmp", ReadOnly: true},
	}
	out, st := output(t, cfg)
	if !strings.Contains(out, "root:") || !strings.Contains(out, "nosuid,nodev") || !strings.Contains(out, "fuse.mica") {
		t.Errorf("status %+v, output:\n%s", st, out)
	}
}

func TestFuseMountFailure(t *testing.T) {
	cfg := sh("sleep 1000")
	cfg.Mounts = []Mount{{Kind: MountFUSE, Target: "/tmp", Server: serverFunc(func(dev *os.File) error {
		dev.Close()
		return errors.New("disk on fire")
	})}}
	box, err := Start(t.Context(), cfg)
	if err == nil {
		_, err = box.Wait()
	}
	if err == nil {
		t.Error("a mount whose server fails: no error")
	}
}
