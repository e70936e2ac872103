// Package format prints rows the way Docker's commands do: as a table, as a
// table of chosen columns, through a Go template, or as JSON, one row per line.
//
// A row is a struct whose exported fields are the columns; its headings are
// given by field name. Templates may use the functions that Docker documents: json,
// join, lower, upper, title, split, pad, truncate, println and table.
package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"
)

// Header maps the field names of a row to the headings of its columns.
type Header map[string]string

// Label heads the column of one label, as in {{.Label "com.example.team"}}.
func (h Header) Label(key string) string {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		key = key[i+1:]
	}
	return strings.ToUpper(strings.NewReplacer("-", " ", "_", " ").Replace(key))
}

// Table says how the rows of one command are printed.
type Table struct {
	Header  Header
	Default string // columns when nothing is asked for: "{{.ID}}\t{{.Names}}"
	Quiet   string // template of -q
}

// Options are what the user asked for.
type Options struct {
	Format string // "", "table", "table TEMPLATE", "json", TEMPLATE
	Quiet  bool
}

// Write prints rows.
func Write[T any](w io.Writer, t Table, opt Options, rows []T) error {
	text, table := opt.Format, false
	switch {
	case opt.Quiet && (text == "" || text == "table"):
		text = t.Quiet
	case text == "" || text == "table":
		text, table = t.Default, true
	case text == "json":
		text = "{{json .}}"
	case strings.HasPrefix(text, "table "):
		text, table = strings.TrimSpace(text[len("table "):]), true
	}
	text = unescape(text)
	tmpl, err := Parse(text)
	if err != nil {
		return err
	}
	var out io.Writer = w
	if table {
		makeCells(tmpl)
		tab := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
		defer tab.Flush()
		out = tab
		head, err := tmpl.Clone()
		if err != nil {
			return err
		}
		head.Funcs(headingFuncs)
		if err := head.Execute(out, t.Header); err != nil {
			return templateError(err)
		}
		fmt.Fprintln(out)
	}
	for _, row := range rows {
		var line bytes.Buffer
		if err := tmpl.Execute(&line, row); err != nil {
			return templateError(err)
		}
		line.WriteByte('\n')
		if _, err := out.Write(line.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// Parse reads a template with the functions of this package.
func Parse(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(funcs).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %s", strings.TrimPrefix(err.Error(), "template: :"))
	}
	return t, nil
}

// Execute prints one value through a template, with a line feed after it.
func Execute(w io.Writer, text string, value any) error {
	t, err := Parse(unescape(text))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, value); err != nil {
		return templateError(err)
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

func templateError(err error) error {
	said := strings.TrimPrefix(err.Error(), "template: ")
	// The types of this program say nothing to its user.
	if before, after, ok := strings.Cut(said, "can't evaluate field "); ok {
		name, _, _ := strings.Cut(after, " in type ")
		said = before + "there is no field " + name
	}
	return fmt.Errorf("execute the format: %s", said)
}

// unescape lets a shell's user write \t and \n in a format, outside of its actions, which have string literals of their own.
func unescape(s string) string {
	var b strings.Builder
	for s != "" {
		text, action := s, ""
		if i := strings.Index(s, "{{"); i >= 0 {
			text, action = s[:i], s[i:]
		}
		b.WriteString(escapes.Replace(text))
		end := actionEnd(action)
		b.WriteString(action[:end])
		s = action[end:]
	}
	return b.String()
}

var escapes = strings.NewReplacer(`\t`, "\t", `\n`, "\n")

// actionEnd is the length of the action that s begins with.
func actionEnd(s string) int {
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote == 0 && strings.HasPrefix(s[i:], "}}"):
			return i + 2
		case quote == 0 && (c == '"' || c == '`' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		case c == '\\' && quote != '`':
			i++
		}
	}
	return len(s)
}

var funcs = template.FuncMap{
	"json":     toJSON,
	"join":     strings.Join,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"split":    strings.Split,
	"title":    title,
	"pad":      pad,
	"truncate": truncate,
	"println":  fmt.Sprintln,
}

// headingFuncs leave a heading as it is, so that {{json .ID}} heads its column ID.
var headingFuncs = template.FuncMap{
	"json":     func(s any) any { return s },
	"join":     func(s any, _ string) any { return s },
	"lower":    func(s any) any { return s },
	"upper":    func(s any) any { return s },
	"title":    func(s any) any { return s },
	"split":    func(s any, _ string) any { return s },
	"truncate": func(s any, _ int) any { return s },
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

func title(s string) string {
	first := true
	return strings.Map(func(r rune) rune {
		if first {
			r = unicode.ToTitle(r)
		}
		first = unicode.IsSpace(r)
		return r
	}, s)
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

func truncate(s string, n int) string {
	runes := []rune(s)
	if n < 0 || len(runes) <= n {
		return s
	}
	return string(runes[:n])
}
