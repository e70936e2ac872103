package bench

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
)

//go:embed assets/echarts.common.min.js.gz
var chartLibrary []byte

//go:embed assets/report.html.tmpl
var pageTemplate string

// WriteHTML writes the report as one page that needs nothing else: the chart library is in it.
func (r *Report) WriteHTML(w io.Writer, changes []Change) error {
	zr, err := gzip.NewReader(bytes.NewReader(chartLibrary))
	if err != nil {
		return fmt.Errorf("unpack chart library: %w", err)
	}
	library, err := io.ReadAll(zr)
	if err != nil {
		return fmt.Errorf("unpack chart library: %w", err)
	}
	page, err := template.New("report").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("parse page template: %w", err)
	}
	charts, err := json.Marshal(r.charts())
	if err != nil {
		return fmt.Errorf("encode charts: %w", err)
	}
	var b bytes.Buffer
	err = page.Execute(&b, map[string]any{
		"Heading": r.heading(), "Footing": r.footing(), "Subject": r.Subject,
		"Header": r.pageHeader(), "Rows": r.pageRows(), "Changes": pageChanges(changes),
		"Library": template.JS(library), //nolint:gosec // it is the embedded library
		"Charts":  template.JS(charts),  //nolint:gosec // json.Marshal escapes what could end a script
	})
	if err != nil {
		return fmt.Errorf("fill page template: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}

// chart is a bar chart of one group: for each workload, every peer's time as a multiple of the subject's.
type chart struct {
	Title     string
	Workloads []string
	Series    []series
}

type series struct {
	Name   string
	Values []*float64 // nil where there is none
	Labels []string
}

// charts has one chart for each group of workloads.
func (r *Report) charts() []chart {
	var out []chart
	for _, row := range r.Rows() {
		if len(out) == 0 || out[len(out)-1].Title != row.Group {
			c := chart{Title: row.Group}
			for _, p := range r.Peers {
				c.Series = append(c.Series, series{Name: p.Name})
			}
			out = append(out, c)
		}
		c := &out[len(out)-1]
		c.Workloads = append(c.Workloads, row.Workload)
		for i := range c.Series {
			s := &c.Series[i]
			s.Labels = append(s.Labels, formatResult(row.ByPeer[s.Name]))
			var value *float64
			if x := row.Ratio(r.Subject, s.Name); x > 0 {
				inverse := math.Round(1000/x) / 1000
				value = &inverse
			}
			s.Values = append(s.Values, value)
		}
	}
	for i := range out {
		out[i].dropEmpty()
	}
	return out
}

// dropEmpty removes the peers that take no part in a group.
func (c *chart) dropEmpty() {
	kept := c.Series[:0]
	for _, s := range c.Series {
		for _, v := range s.Values {
			if v != nil {
				kept = append(kept, s)
				break
			}
		}
	}
	c.Series = kept
}

type pageRow struct {
	Group, Workload, About string
	Cells                  []pageCell
}

type pageCell struct{ Text, Hint, Class string }

func (r *Report) pageHeader() []string {
	head := []string{"workload"}
	for _, p := range r.Peers {
		head = append(head, p.Name)
	}
	for _, p := range r.Peers {
		if p.Name != r.Subject {
			head = append(head, "/ "+p.Name)
		}
	}
	return append(head, "requests/op", "server CPU")
}

func (r *Report) pageRows() []pageRow {
	var out []pageRow
	group := ""
	for _, row := range r.Rows() {
		p := pageRow{Workload: row.Workload, About: row.About}
		if row.Group != group {
			group, p.Group = row.Group, row.Group
		}
		for i, cell := range r.tableRow(row)[1:] {
			c := pageCell{Text: fmt.Sprint(cell)}
			r.decorate(&c, row, i)
			p.Cells = append(p.Cells, c)
		}
		out = append(out, p)
	}
	return out
}

// decorate adds the hint to a result's cell and the colour to a ratio's. The columns are tableRow's.
func (r *Report) decorate(c *pageCell, row Row, column int) {
	if column < len(r.Peers) {
		if res := row.ByPeer[r.Peers[column].Name]; res != nil && len(res.Samples) > 0 {
			c.Hint = fmt.Sprintf("%d samples, %s to %s, %d operations. %s", len(res.Samples), formatValue(res, res.Min), formatValue(res, res.Max), res.Ops, res.Note)
		} else if res != nil {
			c.Hint = res.Failed
		}
		return
	}
	column -= len(r.Peers)
	for _, p := range r.Peers {
		if p.Name == r.Subject {
			continue
		}
		if column == 0 {
			switch x := row.Ratio(r.Subject, p.Name); {
			case x == 0:
			case x <= 0.95:
				c.Class = "faster"
			case x > 1.1:
				c.Class = "slower"
			}
			return
		}
		column--
	}
	if s := row.ByPeer[r.Subject]; s != nil && column == 0 {
		c.Hint = s.describeRequests()
	}
}

func formatValue(res *Result, v float64) string {
	if res.Unit == "kB" {
		return fmt.Sprintf("%.1f MB", v/1024)
	}
	return formatSeconds(v)
}

func pageChanges(changes []Change) []pageRow {
	var out []pageRow
	for _, c := range changes {
		class := ""
		switch {
		case c.Beyond && c.Ratio > 1:
			class = "slower"
		case c.Beyond:
			class = "faster"
		}
		out = append(out, pageRow{Workload: c.Workload, Cells: []pageCell{
			{Text: c.Peer}, {Text: formatResult(c.Old)}, {Text: formatResult(c.New)}, {Text: formatRatio(c.Ratio), Class: class},
		}})
	}
	return out
}
