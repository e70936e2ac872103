package fs

import (
	"testing"

	"mica/cow"
)

// TestTableShrinks has the kernel forget almost everything, as it does when memory is short: what it still holds keeps its id and
// generation, and ids that are given again get another generation.
func TestTableShrinks(t *testing.T) {
	const many, kept = 40000, 100
	var tab table
	tab.init(new(cow.Node))
	type name struct{ id, generation uint64 }
	nodes := make([]*cow.Node, many)
	given := make([]name, many)
	for round := range 3 {
		for i := range nodes {
			if nodes[i] == nil {
				nodes[i] = new(cow.Node)
				old := given[i]
				given[i].id, given[i].generation = tab.give(nodes[i])
				if given[i] == old && round > 0 {
					t.Fatalf("round %d: id %d comes twice with generation %d", round, old.id, old.generation)
				}
			}
		}
		for i := range nodes {
			if i >= many/8 || i%(many/8/kept) != 0 {
				tab.take(given[i].id, 1)
				nodes[i] = nil
			}
		}
		for i, n := range nodes {
			if n == nil {
				continue
			}
			if id, generation := tab.give(n); (name{id, generation}) != given[i] {
				t.Fatalf("round %d: a known node was %v and is now (%d, %d)", round, given[i], id, generation)
			}
			tab.take(given[i].id, 1)
			if tab.get(given[i].id) != n {
				t.Fatalf("round %d: id %d leads to another node", round, given[i].id)
			}
		}
	}
	if len(tab.slots) > many/2 {
		t.Errorf("there are %d slots for %d nodes", len(tab.slots), tab.size())
	}
}
