package bench

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mica/internal/testenv"
)

// logTo writes to both, of which the second may be nil.
func logTo(a, b io.Writer) io.Writer {
	if b == nil {
		return a
	}
	return io.MultiWriter(a, b)
}

// endToEnd runs as a plain user on a plain directory and on kernel overlayfs.
func endToEnd(t *testing.T, ctx context.Context, opt Options) (*Report, string, error) {
	t.Helper()
	var log bytes.Buffer
	opt.Agent = []string{os.Args[0], AgentCommand}
	opt.Quick, opt.Runs, opt.Log = true, 1, logTo(&log, opt.Log)
	opt.sizes = &scale{RootFiles: 200, RootDirs: 40, RootLayers: 4, SourceFiles: 40, SourceDirs: 4, BigBytes: 2 << 20, DirFiles: 50,
		LayerFiles: 100, ManyFiles: 100, SmallFiles: 40, MinPassMillis: 1}
	opt.Dir = filepath.Join(t.TempDir(), "bench")
	rep, err := Run(ctx, opt)
	if left, listErr := os.ReadDir(opt.Dir); len(left) > 0 || listErr != nil {
		t.Errorf("the trees are still there: %v, %v", left, listErr)
	}
	return rep, log.String(), err
}

func TestRunOnNativeAndKernel(t *testing.T) {
	testenv.Unprivileged(t)
	rep, log, err := endToEnd(t, context.Background(), Options{
		Peers: []string{peerNative, peerKern},
		Args:  []string{"stat", "readdir-cold", "create-1", "append-1", "rename-dir", "mount-10", "lookup-10", "memory-idle", "find"},
	})
	if err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	for _, res := range rep.Results {
		if res.Failed != "" || len(res.Samples) != 1 || res.Median <= 0 || res.Ops == 0 || res.Samples[0].Answer == "" {
			t.Errorf("%s on %s: %+v", res.Workload, res.Peer, res)
		}
	}
	for _, row := range rep.Rows() {
		want := 2
		if row.Workload == "mount-10" {
			want = 1 // a plain directory is not mounted
		}
		if len(row.ByPeer) != want {
			t.Errorf("%s ran on %d peers, want %d", row.Workload, len(row.ByPeer), want)
		}
	}
	if len(rep.Wrong) != 0 || rep.Interrupted {
		t.Errorf("wrong: %v, interrupted: %v", rep.Wrong, rep.Interrupted)
	}
}

func TestMissingPeerIsLeftOut(t *testing.T) {
	testenv.Unprivileged(t)
	rep, log, err := endToEnd(t, context.Background(), Options{
		Peers: []string{peerNative}, Args: []string{"stat"},
		Extra: []string{"gone=/nonexistent/overlay {dir}", "idle=true {dir}"},
	})
	if err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	if len(rep.Peers) != 1 || len(rep.LeftOut) != 2 || rep.LeftOut[0].What != "gone" || !strings.Contains(rep.LeftOut[1].Why, "nothing mounted") {
		t.Errorf("peers %+v, left out %+v", rep.Peers, rep.LeftOut)
	}
	if !strings.Contains(log, "left out: gone") {
		t.Errorf("the log does not name it: %q", log)
	}
}

func TestWrongPeerIsFound(t *testing.T) {
	testenv.Unprivileged(t)
	// A peer that shows the topmost layer only.
	rep, log, err := endToEnd(t, context.Background(), Options{
		Peers: []string{peerNative}, Args: []string{"find"},
		Extra: []string{"half=l={lower}; mount --bind ${l%%:*} {dir}"},
	})
	if err == nil || len(rep.Wrong) != 1 || !strings.Contains(rep.Wrong[0], "on half") {
		t.Errorf("got %v, %+v\n%s", err, rep, log)
	}
}

func TestDirectoryAsPeer(t *testing.T) {
	testenv.Unprivileged(t)
	dir := t.TempDir()
	rep, log, err := endToEnd(t, context.Background(), Options{Peers: []string{peerNative}, Args: []string{dir, "untar", "rm-lower"}})
	if err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	if len(rep.Peers) != 2 || rep.Subject != filepath.Base(dir) {
		t.Errorf("peers %+v, subject %q", rep.Peers, rep.Subject)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

func TestInterruptedRunReportsWhatItHas(t *testing.T) {
	testenv.Unprivileged(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The second peer can be mounted once, for the probe. Its failure in the first workload ends the run.
	marker := filepath.Join(t.TempDir(), "marker")
	rep, log, err := endToEnd(t, ctx, Options{
		Peers: []string{peerNative}, Subject: peerNative, Args: []string{"stat", "readdir"}, Log: cancelOn{cancel, "failed: stat on once"},
		Extra: []string{"once=mkdir " + marker + " && mount --bind l0 {dir}"},
	})
	if err != nil {
		t.Fatalf("run: %v\n%s", err, log)
	}
	if !rep.Interrupted || len(rep.Results) != 4 || len(rep.Results[0].Samples) != 1 || len(rep.Results[2].Samples) != 0 {
		t.Errorf("got %+v\n%s", rep, log)
	}
	var b bytes.Buffer
	if err := rep.WriteText(&b); err != nil || !strings.Contains(b.String(), "interrupted") {
		t.Errorf("the report does not say that it is a part: %v\n%s", err, b.String())
	}
}

func TestTwoRunsDoNotShareADirectory(t *testing.T) {
	p, err := planFor(t, Options{Peers: []string{peerNative}, Args: []string{"stat"}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := newSession(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newSession(p); err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("the second run got error %v", err)
	}
	if err := first.close(); err != nil {
		t.Error(err)
	}
}

// cancelOn cancels a run as soon as a text is written to it.
type cancelOn struct {
	cancel context.CancelFunc
	text   string
}

func (c cancelOn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.text) {
		c.cancel()
	}
	return len(b), nil
}
