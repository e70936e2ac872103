package tree

import "mica/cow"

// removeDir removes a directory with all in it, and gives the node back.
func (t *Tree) removeDir(parent *cow.Node, name string, n *cow.Node) error {
	err := t.empty(n)
	t.forget(n)
	if err != nil {
		return err
	}
	return t.Union.Rmdir(parent, name)
}

// empty removes all that is in a directory.
func (t *Tree) empty(dir *cow.Node) error {
	names, err := t.names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := t.Union.Lookup(dir, name, new(cow.Attr))
		if err != nil {
			return err
		}
		if n.IsDir() {
			err = t.removeDir(dir, name, n)
		} else {
			t.forget(n)
			err = t.Union.Unlink(dir, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
