package names

import (
	"regexp"
	"testing"
)

func TestRandomIsAValidName(t *testing.T) {
	plain := regexp.MustCompile(`^[a-z]+_[a-z]+$`)
	numbered := regexp.MustCompile(`^[a-z]+_[a-z]+[0-9]+$`)
	for range 1000 {
		if name := Random(0); !plain.MatchString(name) {
			t.Fatalf("first attempt: %q", name)
		}
		if name := Random(3); !numbered.MatchString(name) {
			t.Fatalf("later attempt: %q", name)
		}
	}
}

func TestWordsAreDistinct(t *testing.T) {
	for _, list := range [][]string{adjectives[:], nouns[:]} {
		seen := map[string]bool{}
		for _, w := range list {
			if seen[w] {
				t.Errorf("%q stands twice", w)
			}
			seen[w] = true
		}
	}
}
