package bench

import (
	"math"
	"slices"
)

// Summary describes the samples of one workload on one peer.
type Summary struct {
	Median float64 `json:"median"`
	// Spread is half the distance between the quartiles, relative to the median: half of the samples lie about that
	// near to it.
	Spread float64 `json:"spread"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// summarize describes samples; none give zeros.
func summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	s := slices.Sorted(slices.Values(values))
	sum := Summary{Median: quantile(s, 0.5), Min: s[0], Max: s[len(s)-1]}
	if sum.Median > 0 {
		sum.Spread = (quantile(s, 0.75) - quantile(s, 0.25)) / 2 / sum.Median
	}
	return sum
}

func median(values []float64) float64 { return summarize(values).Median }

// quantile interpolates between the neighbours in a sorted list.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (sorted[high]-sorted[low])*(at-float64(low))
}
