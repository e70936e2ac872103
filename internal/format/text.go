package format

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// ShortID is the form of an ID that tables show: twelve digits without the
// algorithm.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		id = id[:12]
	}
	return id
}

// Ellipsis shortens s to at most n runes, the last of which says that it did.
func Ellipsis(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	if n <= 1 {
		return string(runes[:n])
	}
	return string(runes[:n-1]) + "…"
}

// Size is a number of bytes as Docker prints it: three digits and a decimal
// unit.
func Size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// Ago says how long ago t was, or "N/A" where the time is not known.
func Ago(t, now time.Time) string {
	if t.IsZero() || t.Unix() <= 0 {
		return "N/A"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

// Duration is d in words.
func Duration(d time.Duration) string { return units.HumanDuration(d) }

// Stamp is a moment as Docker's CreatedAt columns show it.
func Stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -0700 MST") }

// Indented prints v as JSON for people to read, as `inspect` does.
func Indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
