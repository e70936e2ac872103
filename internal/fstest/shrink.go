package fstest

import (
	"errors"
	"os"
	"slices"
	"strings"
)

// Shrink looks for a smaller failure: fewer operations, then fewer objects in
// the layers. It calls again with each smaller attempt, which must return the
// failure it meets or nil, and gives up after the given number of attempts.
func Shrink(f *Failure, attempts int, again func(*Scene, []Op) *Failure) *Failure {
	s := &shrinker{best: f, left: attempts, again: again}
	s.ops()
	s.layers()
	s.ops()
	return s.best
}

// Again is what [Shrink] calls in most cases: a replay in a new directory made by
// temp, with comparisons after every operation once there are few.
func Again(temp func() (string, error), u Union, opt Options) func(*Scene, []Op) *Failure {
	return func(sc *Scene, ops []Op) *Failure {
		dir, err := temp()
		if err != nil {
			return nil
		}
		defer os.RemoveAll(dir)
		o := opt
		o.CompareEvery = 1 + len(ops)/40
		var f *Failure
		if errors.As(Replay(dir, u, sc, ops, o), &f) {
			return f
		}
		return nil
	}
}

// sort is what makes two failures likely to be of one cause.
func (f *Failure) sort() string {
	if len(f.Ops) > 0 && strings.HasPrefix(f.What, f.Ops[len(f.Ops)-1].String()) {
		return string(f.Ops[len(f.Ops)-1].Code)
	}
	return "trees"
}

type shrinker struct {
	best  *Failure
	left  int
	again func(*Scene, []Op) *Failure
}

func (s *shrinker) try(sc *Scene, ops []Op) bool {
	if s.left <= 0 {
		return false
	}
	s.left--
	f := s.again(sc, ops)
	if f == nil || f.sort() != s.best.sort() {
		return false
	}
	s.best = &Failure{Scene: sc, Ops: slices.Clone(f.Ops), Results: f.Results, What: f.What}
	return true
}

// ops leaves out runs of operations, long ones first.
func (s *shrinker) ops() {
	for n := max(1, len(s.best.Ops)/2); ; n /= 2 {
		for at := len(s.best.Ops) - n; at > -n; at -= n {
			from, to := max(at, 0), min(at+n, len(s.best.Ops))
			if from >= to {
				continue
			}
			s.try(s.best.Scene, slices.Concat(s.best.Ops[:from], s.best.Ops[to:]))
		}
		if n <= 1 {
			return
		}
	}
}

// layers leaves out layers, then objects in them.
func (s *shrinker) layers() {
	for i := len(s.best.Scene.Layers) - 1; i >= 0 && len(s.best.Scene.Layers) > 1; i-- {
		s.try(&Scene{Layers: slices.Delete(slices.Clone(s.best.Scene.Layers), i, i+1)}, s.best.Ops)
	}
	for i := range s.best.Scene.Layers {
		s.prune(i, nil)
	}
}

// prune leaves out what is in the directory at way in layer i.
func (s *shrinker) prune(i int, way []string) {
	for _, name := range at(s.best.Scene.Layers[i].Root, way).Names() {
		sc := &Scene{Layers: slices.Clone(s.best.Scene.Layers)}
		sc.Layers[i].Root = clone(sc.Layers[i].Root, map[*Node]*Node{})
		delete(at(sc.Layers[i].Root, way).Kids, name)
		if s.try(sc, s.best.Ops) {
			continue
		}
		if at(s.best.Scene.Layers[i].Root, way).Kids[name].Kind == Dir {
			s.prune(i, append(slices.Clone(way), name))
		}
	}
}

func at(n *Node, way []string) *Node {
	for _, name := range way {
		n = n.Kids[name]
	}
	return n
}
