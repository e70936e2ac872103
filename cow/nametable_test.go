package cow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestNameTable inserts, removes and finds names at random, beside a map.
func TestNameTable(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		d, want := &dirState{}, make(map[string]*dirent)
		names := 1 + r.IntN(400) // few, so that they come and go often
		for step := range 5000 {
			name := fmt.Sprint("name", r.IntN(names))
			if got := d.find(name); got != want[name] {
				t.Fatalf("seed %d, step %d: %s is %v, want %v", seed, step, name, got, want[name])
			}
			if ent := want[name]; ent == nil {
				ent = &dirent{name: name}
				d.insert(ent)
				want[name] = ent
			} else if r.IntN(3) > 0 {
				d.remove(ent)
				delete(want, name)
			}
		}
		last, n := uint32(0), 0
		for ent := range d.present() {
			if ent != want[ent.name] || ent.cookie <= last {
				t.Fatalf("seed %d: entry %v after cookie %d, want %v", seed, ent, last, want[ent.name])
			}
			last = ent.cookie
			n++
		}
		if n != len(want) || d.size() != n {
			t.Fatalf("seed %d: %d entries, size %d, want %d", seed, n, d.size(), len(want))
		}
	}
}
