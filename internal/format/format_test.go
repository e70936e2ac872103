package format

import (
	"strings"
	"testing"
	"time"
)

type row struct {
	ID, Names string
	labels    map[string]string
}

func (r row) Label(key string) string { return r.labels[key] }

var table = Table{
	Header:  Header{"ID": "CONTAINER ID", "Names": "NAMES"},
	Default: "{{.ID}}\t{{.Names}}",
	Quiet:   "{{.ID}}",
}

var rows = []row{
	{ID: "abc", Names: "calm_garnet", labels: map[string]string{"org.team": "blue"}},
	{ID: "defg", Names: "x"},
}

func TestWrite(t *testing.T) {
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{}, "CONTAINER ID   NAMES\nabc            calm_garnet\ndefg           x\n"},
		{Options{Format: "table"}, "CONTAINER ID   NAMES\nabc            calm_garnet\ndefg           x\n"},
		{Options{Quiet: true}, "abc\ndefg\n"},
		{Options{Format: "json"}, `{"ID":"abc","Names":"calm_garnet"}` + "\n" + `{"ID":"defg","Names":"x"}` + "\n"},
		{Options{Format: "{{.Names}}={{upper .ID}}"}, "calm_garnet=ABC\nx=DEFG\n"},
		{Options{Format: `table {{upper .Names}}\t{{.Label "org.team"}}`}, "NAMES         TEAM\nCALM_GARNET   blue\nX             \n"},
		{Options{Format: "{{json .Names}} {{truncate .Names 4}} {{title .Names}}"}, "\"calm_garnet\" calm Calm_garnet\n\"x\" x X\n"},
		{Options{Format: `{{.ID}}\t{{print "}}\n" .ID}}\n`}, "abc\t}}\nabc\n\ndefg\t}}\ndefg\n\n"},
		{Options{Format: "{{print `\\n` .ID}}"}, `\nabc` + "\n" + `\ndefg` + "\n"},
		{Options{Format: `{{join (split .Names "_") "-"}}`}, "calm-garnet\nx\n"},
	} {
		var b strings.Builder
		if err := Write(&b, table, c.opt, rows); err != nil {
			t.Errorf("%+v: %v", c.opt, err)
			continue
		}
		if b.String() != c.want {
			t.Errorf("%+v:\n%q, want\n%q", c.opt, b.String(), c.want)
		}
	}
}

func TestWriteRefusesBadTemplates(t *testing.T) {
	for _, f := range []string{"{{.Nothing}}", "{{.ID", "{{nofunc .ID}}", "table {{.Nothing.More}}"} {
		if err := Write(&strings.Builder{}, table, Options{Format: f}, rows); err == nil {
			t.Errorf("%q: no error", f)
		}
	}
}

func TestTemplateErrorsNameNoTypes(t *testing.T) {
	err := Execute(&strings.Builder{}, "{{.Nope}}", &rows[0])
	if err == nil || !strings.HasSuffix(err.Error(), "there is no field Nope") {
		t.Errorf("a field that is not there: %v", err)
	}
}

func TestText(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for got, want := range map[string]string{
		ShortID("sha256:0123456789abcdef"):        "0123456789ab",
		ShortID("short"):                          "short",
		Ellipsis("abcdef", 4):                     "abc…",
		Ellipsis("abcd", 4):                       "abcd",
		Size(123456789):                           "123MB",
		Size(0):                                   "0B",
		Ago(now.Add(-3*time.Hour), now):           "3 hours ago",
		Ago(time.Time{}, now):                     "N/A",
		Ago(now.Add(-1500*time.Millisecond), now): "1 second ago",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
