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
		"Sections": r.pageSections(), "Changes": pageChanges(changes),
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

type pageSection struct {
	Header []string
	Rows   []pageRow
}

type pageRow struct {
	Group, Workload, About string
	Cells                  []cell
}

func (r *Report) pageSections() []pageSection {
	var out []pageSection
	for _, sec := range r.sections() {
		p := pageSection{Header: r.header(sec)}
		group := ""
		for _, row := range sec.rows {
			line := pageRow{Workload: row.Workload, About: row.About, Cells: r.cells(sec, row)}
			if row.Group != group {
				group, line.Group = row.Group, row.Group
			}
			p.Rows = append(p.Rows, line)
		}
		out = append(out, p)
	}
	return out
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
		out = append(out, pageRow{Workload: c.Workload, Cells: []cell{
			{Text: c.Peer}, {Text: formatResult(c.Old)}, {Text: formatResult(c.New)}, {Text: formatRatio(c.Ratio), Class: class},
		}})
	}
	return out
}
