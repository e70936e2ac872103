package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// fioJob is one fio run on one file.
type fioJob struct {
	name, about string
	rw, block   string
	engine      string
	file        string // data.bin is the lower file, new.bin a new one
	warm        bool   // keep the page cache, and measure after a warm-up
}

// fioWorkloads move data. Before a job that is not warm, the file's contents are dropped from the page cache, both below
// and, by fio itself, in the mounted tree. The time is the sum of the latencies that fio reports: the start of fio is
// not in it.
func fioWorkloads() []Workload {
	jobs := []fioJob{
		{name: "fio-read", about: "sequential read of a lower file, 1 MiB blocks", rw: "read", block: "1M", file: "data.bin"},
		{name: "fio-reread", about: "the same with a warm page cache", rw: "read", block: "1M", file: "data.bin", warm: true},
		{name: "fio-randread", about: "random read of a lower file, 4 KiB blocks", rw: "randread", block: "4k", file: "data.bin"},
		{name: "fio-write", about: "sequential write of a new file, 1 MiB blocks", rw: "write", block: "1M", file: "new.bin"},
		{name: "fio-randwrite", about: "random write of a new file, 4 KiB blocks", rw: "randwrite", block: "4k", file: "new.bin"},
		{name: "fio-rewrite", about: "sequential rewrite of a lower file, 1 MiB blocks", rw: "write", block: "1M", file: "data.bin"},
		{name: "fio-randrewrite", about: "random rewrite of a lower file, 4 KiB blocks", rw: "randwrite", block: "4k", file: "data.bin"},
		{name: "fio-mmap-read", about: "random read of a mapped lower file, 4 KiB blocks", rw: "randread", block: "4k", engine: "mmap", file: "data.bin"},
		{name: "fio-mmap-write", about: "random write of a mapped lower file, 4 KiB blocks", rw: "randwrite", block: "4k", engine: "mmap", file: "data.bin"},
	}
	var all []Workload
	for _, j := range jobs {
		reads := j.rw == "read" || j.rw == "randread"
		w := Workload{
			Name: j.name, Group: "data", About: j.about + "; an operation is one block", Fixture: "fio", Needs: []Tool{{"fio", "fio"}},
			Mutates: !reads, Once: !reads, Cold: reads && !j.warm, Quick: j.block == "1M",
			pass:   j.pass,
			answer: func(e *env) (string, error) { return fileSum(e.path(j.file)) },
		}
		if !j.warm {
			w.prepare = forgetData
		}
		all = append(all, w)
	}
	return all
}

// forgetData drops the lower file's clean pages, so that a server that reads it finds them no warmer than the kernel's
// own filesystems do after fio dropped them in the tree. It needs no privilege.
func forgetData(e *env) error {
	f, err := os.Open(filepath.Join(e.fix.dir, "l0", "data.bin"))
	if err != nil {
		return fmt.Errorf("drop pages: %w", err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop pages: %w", err)
	}
	return nil
}

// fioReport is the part of fio's JSON that is used.
type fioReport struct {
	Jobs []struct {
		Read, Write struct {
			TotalIOs int64 `json:"total_ios"`
			IOBytes  int64 `json:"io_bytes"`
			Latency  struct {
				Mean float64 `json:"mean"`
			} `json:"lat_ns"`
		}
	}
}

func (j fioJob) pass(e *env) (int, error) {
	engine := j.engine
	if engine == "" {
		engine = "psync"
	}
	invalidate := "1"
	if j.warm {
		invalidate = "0"
	}
	cmd := command(e.tmp, "fio", "--name=job", "--filename="+e.path(j.file), "--size="+strconv.FormatInt(e.t.Scale.FioBytes, 10),
		"--rw="+j.rw, "--bs="+j.block, "--ioengine="+engine, "--invalidate="+invalidate, "--thread", "--fallocate=none",
		"--buffer_pattern=0x6d696361", "--randrepeat=1", "--output-format=json")
	out, err := output(cmd)
	if err != nil {
		return 0, err
	}
	var r fioReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return 0, fmt.Errorf("read fio's report: %w", err)
	}
	if len(r.Jobs) != 1 {
		return 0, fmt.Errorf("read fio's report: it has %d jobs, want 1", len(r.Jobs))
	}
	side := r.Jobs[0].Read
	if side.TotalIOs == 0 {
		side = r.Jobs[0].Write
	}
	if side.IOBytes != e.t.Scale.FioBytes {
		return 0, fmt.Errorf("run fio: it moved %d bytes, want %d", side.IOBytes, e.t.Scale.FioBytes)
	}
	e.elapsed = time.Duration(side.Latency.Mean * float64(side.TotalIOs))
	return int(side.TotalIOs), nil
}
