package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// reportFormat is the version of the JSON report.
const reportFormat = 1

// Report is everything that a run found; it is written as JSON as it is.
type Report struct {
	Format      int
	Quick       bool
	Runs        int
	Scale       scale
	Interrupted bool `json:",omitempty"`
	Environment Environment
	// Subject is the peer that the ratios are of.
	Subject string
	Peers   []peerSpec
	LeftOut []LeftOut `json:",omitempty"`
	Results []*Result
	// Wrong lists what is not as it must be: answers that differ from the reference, and failures of the subject.
	Wrong []string `json:",omitempty"`
}

// Environment is the machine that a report is from.
type Environment struct {
	Kernel, CPU string
	CPUs        int
	MemoryMB    int
	Filesystem  string
	// Root says that caches could be dropped; User is whom the agents ran as, if another.
	Root bool
	User string `json:",omitempty"`
	Time time.Time
	// Build is the build of mica, Command the command line.
	Build   string   `json:",omitempty"`
	Command []string `json:",omitempty"`
	// Load is the load of the machine, of the last minute, when the run began.
	Load float64
}

// LeftOut is something that was not measured.
type LeftOut struct{ What, Why string }

// Result is one workload on one peer.
type Result struct {
	Workload, Group, About, Unit, Peer string
	// Cold results were measured right after the mount; Dropped, with the kernel's caches dropped as well.
	Cold, Dropped bool `json:",omitempty"`
	// Tool results are of programs that are measured as wholes, which have peers of their own.
	Tool    bool `json:",omitempty"`
	Samples []sample
	// Failed is why there are no more samples.
	Failed string `json:",omitempty"`
	Summary
	// Ops is the number of operations of one pass.
	Ops int
	// RequestsPerOp counts FUSE requests by operation, median over the samples: empty where
	// there was none, nil where the server does not say.
	RequestsPerOp map[string]float64
	// ServerCPU is the median of the processor time of the server for one pass, in seconds; -1 without a server.
	ServerCPU float64
	// ServerKB is the median of the server's resident memory.
	ServerKB int64  `json:",omitempty"`
	Note     string `json:",omitempty"`
}

// finish computes what follows from the samples and checks the answers.
func (r *Report) finish() {
	for _, res := range r.Results {
		res.summarize()
	}
	r.Wrong = r.wrong()
}

func (res *Result) summarize() {
	var values, cpu, kb []float64
	requests := map[string][]float64{}
	counted := 0
	for _, s := range res.Samples {
		values = append(values, s.Value)
		cpu = append(cpu, s.ServerCPU)
		kb = append(kb, float64(s.ServerKB))
		res.Ops, res.Dropped = s.Ops, s.Dropped
		if s.Note != "" {
			res.Note = s.Note
		}
		if s.Requests != nil {
			counted++
		}
		for op, n := range s.Requests {
			requests[op] = append(requests[op], n/float64(max(1, s.Ops)))
		}
	}
	res.Summary, res.ServerCPU, res.ServerKB = summarize(values), -1, int64(median(kb))
	if len(cpu) > 0 {
		res.ServerCPU = median(cpu)
	}
	if counted == 0 {
		return
	}
	res.RequestsPerOp = map[string]float64{}
	for op, n := range requests {
		for len(n) < counted { // a sample without this request
			n = append(n, 0)
		}
		if m := median(n); m > 0 {
			res.RequestsPerOp[op] = m
		}
	}
}

// wrong compares every answer with the workload's first one: the plain directory's, where it takes part.
func (r *Report) wrong() []string {
	var out []string
	reference := map[string]sample{}
	from := map[string]string{}
	for _, res := range r.Results {
		if res.Failed != "" && res.Peer == r.Subject {
			out = append(out, fmt.Sprintf("%s failed on %s: %s", res.Workload, res.Peer, res.Failed))
		}
		for _, s := range res.Samples {
			ref, ok := reference[res.Workload]
			if !ok {
				reference[res.Workload], from[res.Workload] = s, res.Peer
				continue
			}
			if s.Answer != ref.Answer {
				out = append(out, fmt.Sprintf("%s gave %q on %s, but %q on %s", res.Workload, s.Answer, res.Peer, ref.Answer, from[res.Workload]))
				break
			}
		}
	}
	return out
}

// verdict is an error when something is wrong.
func (r *Report) verdict() error {
	if len(r.Wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrWrong, strings.Join(r.Wrong, "; "))
}

// toolPeer returns the peer of a program that is measured itself, adding it to the report the first time.
func (r *Report) toolPeer(name string) peerSpec {
	for _, p := range r.Peers {
		if p.Name == name {
			return p
		}
	}
	p := peerSpec{Name: name, Kind: peerTool, Version: versionOf(name)}
	r.Peers = append(r.Peers, p)
	return p
}

// Row is a workload with its results by peer.
type Row struct {
	Workload, Group, About, Unit string
	Cold, Dropped, Tool          bool
	ByPeer                       map[string]*Result
}

// Rows groups the results by workload, in order.
func (r *Report) Rows() []Row {
	var rows []Row
	at := map[string]int{}
	for _, res := range r.Results {
		i, ok := at[res.Workload]
		if !ok {
			i = len(rows)
			at[res.Workload] = i
			rows = append(rows, Row{Workload: res.Workload, Group: res.Group, About: res.About, Unit: res.Unit, Cold: res.Cold, Tool: res.Tool, ByPeer: map[string]*Result{}})
		}
		rows[i].Dropped = rows[i].Dropped || res.Dropped
		rows[i].ByPeer[res.Peer] = res
	}
	return rows
}

// section is a table of its own: rows that have peers in common.
type section struct {
	peers []string
	rows  []Row
}

// sections puts filesystems and programs in tables of their own, each with the peers that were measured in it.
func (r *Report) sections() []section {
	var out []section
	for _, tool := range []bool{false, true} {
		s := section{}
		took := map[string]bool{}
		for _, row := range r.Rows() {
			if row.Tool != tool {
				continue
			}
			s.rows = append(s.rows, row)
			for name := range row.ByPeer {
				took[name] = true
			}
		}
		for _, p := range r.Peers {
			if took[p.Name] {
				s.peers = append(s.peers, p.Name)
			}
		}
		if len(s.rows) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// others are the peers of the section that the subject is compared with.
func (s section) others(subject string) []string {
	if !slices.Contains(s.peers, subject) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.peers), func(p string) bool { return p == subject })
}

// Ratio is the subject's median over another peer's: below 1 the subject takes less. It is 0 where one is missing.
func (row Row) Ratio(subject, peer string) float64 {
	s, p := row.ByPeer[subject], row.ByPeer[peer]
	if s == nil || p == nil || len(s.Samples) == 0 || len(p.Samples) == 0 || p.Median <= 0 {
		return 0
	}
	return s.Median / p.Median
}

// requestsPerOp is the sum over all requests; ok is false where the server does not say.
func (res *Result) requestsPerOp() (n float64, ok bool) {
	for _, v := range res.RequestsPerOp {
		n += v
	}
	return n, res.RequestsPerOp != nil
}

// describeRequests lists the requests, most frequent first.
func (res *Result) describeRequests() string {
	ops := slices.SortedFunc(maps.Keys(res.RequestsPerOp), func(a, b string) int {
		if d := res.RequestsPerOp[b] - res.RequestsPerOp[a]; d != 0 {
			return map[bool]int{true: 1, false: -1}[d > 0]
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(ops))
	for i, op := range ops {
		parts[i] = fmt.Sprintf("%s %.3g", op, res.RequestsPerOp[op])
	}
	return strings.Join(parts, ", ")
}

// coldMethod says how cold the cold runs were.
func (r *Report) coldMethod() string {
	for _, res := range r.Results {
		if res.Dropped {
			return "cold: fresh mount and dropped caches"
		}
	}
	return "cold: fresh mount; the page cache below stays warm, because only root may drop it"
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write JSON report: %w", err)
	}
	return nil
}

// ReadJSON reads a report that WriteJSON wrote.
func ReadJSON(rd io.Reader) (*Report, error) {
	r := &Report{}
	if err := json.NewDecoder(rd).Decode(r); err != nil {
		return nil, fmt.Errorf("read JSON report: %w", err)
	}
	if r.Format != reportFormat {
		return nil, fmt.Errorf("read JSON report: it has format %d, want %d", r.Format, reportFormat)
	}
	return r, nil
}
