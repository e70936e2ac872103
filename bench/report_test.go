package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// exampleReport has two workloads on three peers, one of which failed.
func exampleReport(t *testing.T) *Report {
	t.Helper()
	r := &Report{Format: reportFormat, Runs: 2, Scale: quickScale(), Subject: "mica",
		Peers: []peerSpec{{Name: "native", Kind: peerFlat}, {Name: "other", Kind: peerCommand}, {Name: "mica", Kind: peerCommand}},
		Results: []*Result{
			{Workload: "stat", Group: "metadata", Unit: "s", Peer: "native", Samples: []sample{{Value: 0.010, Ops: 10, Answer: "a", ServerCPU: -1}, {Value: 0.012, Ops: 10, Answer: "a", ServerCPU: -1}}},
			{Workload: "stat", Group: "metadata", Unit: "s", Peer: "other", Failed: "no <device>"},
			{Workload: "stat", Group: "metadata", Unit: "s", Peer: "mica", Samples: []sample{
				{Value: 0.0055, Ops: 10, Answer: "a", Requests: map[string]float64{"LOOKUP": 20, "GETATTR": 5}, ServerCPU: 0.001},
				{Value: 0.0055, Ops: 10, Answer: "a", Requests: map[string]float64{"LOOKUP": 20}, ServerCPU: 0.001}}},
			{Workload: "memory-idle", Group: "memory", Unit: "kB", Peer: "mica", Samples: []sample{{Value: 10240, Ops: 1, Answer: "m"}}},
			{Workload: "run-true", Group: "containers", Unit: "s", Peer: "podman", Tool: true, Samples: []sample{{Value: 0.2, Ops: 1, ServerCPU: -1}}},
		}}
	r.finish()
	return r
}

func TestReportSummarizes(t *testing.T) {
	r := exampleReport(t)
	row := r.Rows()[0]
	if got := row.Ratio("mica", "native"); got != 0.5 {
		t.Errorf("ratio to native: got %v, want 0.5", got)
	}
	if got := row.Ratio("mica", "other"); got != 0 {
		t.Errorf("ratio to a peer that failed: got %v, want 0", got)
	}
	n, ok := row.ByPeer["mica"].requestsPerOp()
	if !ok || n != 2.25 {
		t.Errorf("requests per operation: got %v, %v, want 2.25", n, ok)
	}
	if got := row.ByPeer["mica"].describeRequests(); got != "LOOKUP 2, GETATTR 0.25" {
		t.Errorf("requests by opcode: got %q", got)
	}
	if r.verdict() != nil {
		t.Errorf("a peer's failure is the peer's: %v", r.verdict())
	}
}

func TestWrongAnswerFailsTheRun(t *testing.T) {
	r := exampleReport(t)
	r.Results[2].Samples[1].Answer = "b"
	r.finish()
	err := r.verdict()
	if !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), `stat gave "b" on mica, but "a" on native`) {
		t.Errorf("got %v", err)
	}
}

func TestSubjectsFailureFailsTheRun(t *testing.T) {
	r := exampleReport(t)
	r.Results[2].Failed = "broken"
	r.finish()
	if err := r.verdict(); !errors.Is(err, ErrWrong) {
		t.Errorf("got %v", err)
	}
}

func TestWriteText(t *testing.T) {
	var b bytes.Buffer
	if err := exampleReport(t).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"11 ms ±5%", "5.5 ms ±0%", "0.50", "2.25", "10.0 MB", "failed: stat on other: no <device>", "page cache below stays warm"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
	tables := strings.Split(b.String(), "workload ")
	if len(tables) != 3 || strings.Contains(tables[1], "podman") {
		t.Errorf("filesystems and programs share a table:\n%s", b.String())
	}
}

func TestWriteHTMLNeedsNothingElse(t *testing.T) {
	r := exampleReport(t)
	changes, err := Compare(r, r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteHTML(&b, changes); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"echarts", "5.5 ms", "no &lt;device&gt;", "Compared with before", `"Workloads":["stat"]`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if m := regexp.MustCompile(`(?i)(src|href)\s*=\s*["']?(https?:)?//`).FindString(page); m != "" {
		t.Errorf("the page loads something: %q", m)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	r := exampleReport(t)
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	again, err := ReadJSON(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var b2 bytes.Buffer
	if err := again.WriteJSON(&b2); err != nil {
		t.Fatal(err)
	}
	if b.String() != b2.String() {
		t.Errorf("a report read back is another:\n%s\n%s", b.String(), b2.String())
	}
	if _, err := ReadJSON(strings.NewReader(`{"Format": 99}`)); err == nil {
		t.Error("a report of another format was taken")
	}
}

func TestCompare(t *testing.T) {
	old, now := exampleReport(t), exampleReport(t)
	for i := range now.Results[2].Samples {
		now.Results[2].Samples[i].Value = 0.011
	}
	now.finish()
	changes, err := Compare(old, now)
	if err != nil {
		t.Fatal(err)
	}
	worse := Regressions(changes, "mica", 1.5)
	if len(worse) != 1 || worse[0].Workload != "stat" || worse[0].Ratio != 2 {
		t.Errorf("regressions: got %+v", worse)
	}
	var b bytes.Buffer
	if err := WriteChanges(&b, changes); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "slower") || !strings.Contains(b.String(), "within the spread") {
		t.Errorf("the comparison says:\n%s", b.String())
	}
	for _, res := range now.Results {
		res.Samples = res.Samples[:min(len(res.Samples), 1)]
	}
	if changes, err = Compare(old, now); err != nil || len(Regressions(changes, "mica", 1.5)) != 0 {
		t.Errorf("one sample was taken for a regression: %+v, %v", changes, err)
	}
	now.Scale = fullScale()
	if _, err := Compare(old, now); err == nil {
		t.Error("reports of different sizes were compared")
	}
}

func TestRegressionsLeaveTheMachineOut(t *testing.T) {
	change := func(peer string, ratio float64) Change {
		return Change{Workload: "stat", Peer: peer, Ratio: ratio, Beyond: true}
	}
	if got := Regressions([]Change{change("native", 3), change("kernel", 2.6), change("mica", 2.5)}, "mica", 1.2); len(got) != 0 {
		t.Errorf("a slower machine was taken for a regression: %+v", got)
	}
	if got := Regressions([]Change{change("native", 1), change("kernel", 1.1), change("mica", 2.5)}, "mica", 1.2); len(got) != 1 {
		t.Errorf("a regression was missed: %+v", got)
	}
}

// No request at all is what the warm workloads are to reach; it must not read like a server that does not say.
func TestNoRequestsIsNotUnknown(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests map[string]float64
		want     bool
	}{{"none", map[string]float64{}, true}, {"unknown", nil, false}} {
		raw, err := json.Marshal(message{Result: &sample{Value: 1, Ops: 1, Requests: c.requests}})
		if err != nil {
			t.Fatal(err)
		}
		var m message
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		res := &Result{Samples: []sample{*m.Result}}
		res.summarize()
		if n, ok := res.requestsPerOp(); ok != c.want || n != 0 {
			t.Errorf("%s: got %v, known %v, want 0, known %v", c.name, n, ok, c.want)
		}
	}
}
