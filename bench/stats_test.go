package bench

import (
	"math"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   Summary
	}{
		{"none", nil, Summary{}},
		{"one", []float64{3}, Summary{Median: 3, Min: 3, Max: 3}},
		{"even number", []float64{4, 2}, Summary{Median: 3, Min: 2, Max: 4, Spread: 0.5 / 3}},
		{"unsorted, with an outlier", []float64{10, 1, 3, 2, 4}, Summary{Median: 3, Min: 1, Max: 10, Spread: 1.0 / 3}},
		{"zeros", []float64{0, 0}, Summary{}},
	} {
		got := summarize(c.values)
		if got.Median != c.want.Median || got.Min != c.want.Min || got.Max != c.want.Max || math.Abs(got.Spread-c.want.Spread) > 1e-9 {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestSummarizeLeavesItsInput(t *testing.T) {
	values := []float64{3, 1, 2}
	summarize(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("the samples were reordered: %v", values)
	}
}
