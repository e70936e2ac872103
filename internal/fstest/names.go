package fstest

import (
	"math/rand/v2"
	"strings"
)

// allNames are the names that layers and operations use: few, so that they
// meet often. The first plainNames are used most.
var allNames = []string{
	"a", "b", "c", "d", "e",
	"with space", "\xff\xfe", "new\nline", "..x", ".h", "-x",
	strings.Repeat("n", 251), strings.Repeat("m", 255), "wh.a", "é",
}

const plainNames = 5

func anyName(r *rand.Rand) string {
	if r.IntN(12) == 0 {
		return allNames[r.IntN(len(allNames))]
	}
	return allNames[r.IntN(plainNames)]
}

func linkTarget(r *rand.Rand) string {
	switch r.IntN(10) {
	case 0:
		return "."
	case 1:
		return ".."
	case 2:
		return strings.Repeat("x/", 10+r.IntN(100)) + "end"
	case 3, 4, 5:
		return anyName(r) + "/" + anyName(r)
	case 6:
		return "../" + anyName(r)
	}
	return anyName(r)
}
