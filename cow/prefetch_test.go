package cow

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestWalkAhead: reading files in the order of a listing, with small gaps and
// through several directories, fetches those that follow, each once; reading
// in another order fetches nothing.
func TestWalkAhead(t *testing.T) {
	var w walk
	fetched := make(map[string]int)
	read := func(dir uint64, cookie uint32) {
		from, fetch := w.read(dir, cookie)
		if !fetch {
			return
		}
		for c := from + 1; c <= from+walkAhead; c++ {
			fetched[fmt.Sprint(dir, "/", c)]++
		}
		w.fetched(dir, from+walkAhead)
	}
	for _, c := range []uint32{10, 2, 30, 7, 50, 90} {
		read(1, c)
	}
	if len(fetched) > 0 {
		t.Errorf("reading at random fetches %v", fetched)
	}
	for dir := uint64(2); dir < 5; dir++ {
		for c := uint32(1); c < 100; c += 1 + c%2 { // every second gap is a directory
			read(dir, c)
		}
	}
	for dir := uint64(3); dir < 5; dir++ {
		for c := uint32(2); c < 100; c++ {
			if n := fetched[fmt.Sprint(dir, "/", c)]; n != 1 {
				t.Errorf("name %d of directory %d is fetched %d times", c, dir, n)
			}
		}
	}
}

// TestPrefetchOrder: what was listed last is fetched first, in order, and what
// waits is bounded.
func TestPrefetchOrder(t *testing.T) {
	p := prefetcher{workers: prefetchWorkers} // all are busy
	defer p.close()
	batch := func(from, n int) (b []prefetch) {
		for i := range n {
			b = append(b, prefetch{name: fmt.Sprint(from + i)})
		}
		return b
	}
	p.push(nil, batch(0, 3))
	p.push(nil, batch(10, 2))
	var order []string
	for _, t := range slices.Backward(p.todo) {
		order = append(order, t.name)
	}
	if want := []string{"10", "11", "0", "1", "2"}; !slices.Equal(order, want) {
		t.Errorf("the order is %q, want %q", order, want)
	}
	p.push(nil, batch(100, 3*prefetchMax))
	p.push(nil, batch(20, 1))
	if n := len(p.todo); n != prefetchMax || p.todo[n-1].name != "20" {
		t.Errorf("%d objects wait, the next is %s", n, p.todo[n-1].name)
	}
}

// TestPrefetchWhileChanging has a walk take all objects for cold while others
// change the tree: what it sees is right, and nothing is left behind.
func TestPrefetchWhileChanging(t *testing.T) {
	trees := make([]tree, 3)
	for i := range trees {
		trees[i] = tree{}
		for d := range 30 {
			for n := range 12 {
				trees[i][fmt.Sprintf("stay/dir%d/sub%d/file", d, n)] = fmt.Sprint("layer", i)
				trees[i][fmt.Sprintf("stay/dir%d/file%02d", d, n)] = fmt.Sprint("layer", i)
				trees[i][fmt.Sprintf("move/dir%d/file%d", d, n)] = "moves"
			}
		}
	}
	u := open(t, layers(t, trees...))
	processors, descriptors := runtime.GOMAXPROCS(0), openFiles(t)
	changed := make(chan error)
	go func() {
		var err error
		for d := range 30 {
			err = errors.Join(err,
				u.rename(fmt.Sprintf("move/dir%d", d), fmt.Sprintf("move/to%d", d), 0),
				u.put(fmt.Sprintf("move/to%d/file0", d), "new", 0),
				u.unlink(fmt.Sprintf("move/to%d/file1", d)))
		}
		changed <- err
	}()
	for d := range 30 {
		u.ahead.cold.Store(coldMost)
		dir := fmt.Sprintf("stay/dir%d", d)
		var names []string
		must(t, u.with(dir, func(n *Node) (err error) {
			names, err = u.names(n)
			return err
		}))
		if len(names) != 24 {
			t.Errorf("%s has %d names, want 24", dir, len(names))
		}
		for _, name := range names {
			u.ahead.cold.Store(coldMost)
			if text, want := "", "layer0"; name[:4] == "file" {
				if text = u.content(dir + "/" + name); text != want {
					t.Errorf("%s/%s is %q, want %q", dir, name, text, want)
				}
			}
		}
	}
	must(t, <-changed)
	u.ahead.running.Wait()
	if runtime.GOMAXPROCS(0) <= processors {
		t.Error("nothing was fetched")
	}
	u.ahead.mu.Lock()
	u.ahead.lapse.Reset(time.Nanosecond)
	u.ahead.mu.Unlock()
	for deadline := time.Now().Add(10 * time.Second); runtime.GOMAXPROCS(0) != processors; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processors of Go, %d before", runtime.GOMAXPROCS(0), processors)
		}
	}
	u.fds.closeAll()
	if n := openFiles(t); n > descriptors {
		t.Errorf("%d descriptors are open, %d before", n, descriptors)
	}
}

// TestColdness: single slow objects, as on a busy machine, do not count as cold;
// several do, until many were fast.
func TestColdness(t *testing.T) {
	var p prefetcher
	slow := func() { p.note(time.Second, 1, 10) }
	fast := func(n int) {
		for range n {
			p.note(time.Microsecond, 1, 10)
		}
	}
	for range 20 {
		slow()
		fast(coldStep)
	}
	if p.isCold() {
		t.Error("one slow object among many counts as cold")
	}
	for range 4 {
		slow()
	}
	if !p.isCold() {
		t.Error("slow objects do not count as cold")
	}
	fast(coldMost)
	if p.isCold() {
		t.Error("fast objects count as cold")
	}
	p.note(5*time.Millisecond, 1, 10_000)
	p.note(5*time.Millisecond, 100, 0)
	if p.cold.Load() != 0 {
		t.Error("large objects count as cold")
	}
}
