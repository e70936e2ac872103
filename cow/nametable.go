package cow

import (
	"hash/maphash"
	"iter"
)

// nameTable finds the entries of a listing by their names: a hash table with
// open addressing of places in dirState.order. A map would take several times
// the memory, which counts when a tree of a million names is known. Entries
// that are gone stay in the order for a while, and in the table as long.
type nameTable struct {
	slots []uint32 // place in the order plus one; 0: free. nil: look at all
	used  int
}

const (
	// fewNames are found without a table.
	fewNames = 8
	// nameLoad is how full a table may be, in quarters.
	nameLoad = 3
)

var nameSeed = maphash.MakeSeed()

// newNameTable makes a table with room for n names and one more.
func newNameTable(n int) nameTable {
	if n <= fewNames {
		return nameTable{}
	}
	size := 2 * fewNames
	for size*nameLoad < (n+1)*4 {
		size *= 2
	}
	return nameTable{slots: make([]uint32, size)}
}

// find gives the entry of a name, nil if there is none.
func (d *dirState) find(name string) *dirent {
	if d.table.slots == nil {
		for _, ent := range d.order {
			if !ent.gone && ent.name == name {
				return ent
			}
		}
		return nil
	}
	mask := uint64(len(d.table.slots) - 1)
	for i := maphash.String(nameSeed, name) & mask; ; i = (i + 1) & mask {
		at := d.table.slots[i]
		if at == 0 {
			return nil
		}
		if ent := d.order[at-1]; !ent.gone && ent.name == name {
			return ent
		}
	}
}

// enter puts the last entry of the order into the table.
func (d *dirState) enter() {
	if (d.table.used+1)*4 > len(d.table.slots)*nameLoad {
		d.rebuild()
		return
	}
	d.table.put(d.order, len(d.order)-1)
}

func (t *nameTable) put(order []*dirent, at int) {
	mask := uint64(len(t.slots) - 1)
	i := maphash.String(nameSeed, order[at].name) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = uint32(at) + 1
	t.used++
}

// rebuild makes the table anew, with room for what is there and some more.
func (d *dirState) rebuild() {
	d.table = newNameTable(len(d.order))
	if d.table.slots == nil {
		return
	}
	for at, ent := range d.order {
		if !ent.gone {
			d.table.put(d.order, at)
		}
	}
}

// size is how many entries the listing has.
func (d *dirState) size() int { return len(d.order) - d.gone }

// present are the entries that are not gone.
func (d *dirState) present() iter.Seq[*dirent] {
	return func(yield func(*dirent) bool) {
		for _, ent := range d.order {
			if !ent.gone && !yield(ent) {
				return
			}
		}
	}
}
