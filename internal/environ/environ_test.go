package environ

import (
	"slices"
	"testing"
)

func TestSet(t *testing.T) {
	env := []string{"A=1", "AB=2", "C"}
	for _, kv := range []string{"A=3", "D=4", "C=", "AB=x=y"} {
		env = Set(env, kv)
	}
	if want := []string{"A=3", "AB=x=y", "C=", "D=4"}; !slices.Equal(env, want) {
		t.Errorf("%q, want %q", env, want)
	}
}
