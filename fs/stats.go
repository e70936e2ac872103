package fs

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats is what a server has done so far.
type Stats struct {
	Requests   map[string]uint64 `json:"requests"`    // by the names of the protocol
	CPUSeconds float64           `json:"cpu_seconds"` // of the whole process
	RSSKB      int64             `json:"rss_kb"`      // of the whole process, now
	Nodes      int               `json:"nodes"`       // known to the kernel
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	st := Stats{Requests: make(map[string]uint64), Nodes: s.ids.size()}
	for op := range s.counts {
		if n := s.counts[op].Load(); n > 0 {
			name := opNames[op]
			if name == "" {
				name = strconv.Itoa(op)
			}
			st.Requests[name] = n
		}
	}
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		st.CPUSeconds = float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
	}
	st.RSSKB = residentKB()
	return st
}

// residentKB is the memory of the process, 0 if it cannot be told.
func residentKB() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize()) / 1024
}

// WriteStats writes the counters as JSON to a file, whole or not at all.
func (s *Server) WriteStats(path string) error {
	b, err := json.Marshal(s.Stats())
	if err != nil {
		return fmt.Errorf("encode statistics: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write statistics: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write statistics: %w", err)
	}
	return nil
}
