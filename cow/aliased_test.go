package cow

import "testing"

// TestNameOfUnlinkedFile: a file that is in use stays one object when the name it was found by goes and another one stays.
func TestNameOfUnlinkedFile(t *testing.T) {
	for _, found := range []string{"held by the old name", "held by the new name"} {
		cfg := layers(t, tree{"d/": "", "d/f": "content", "e/": ""}, tree{})
		u := open(t, cfg)
		must(t, u.link("d/f", "e/g"))
		name, other := "d/f", "e/g"
		u.reopen()
		if found == "held by the new name" {
			name, other = other, name
		}
		n, err := u.walk(name)
		must(t, err)
		zero := int64(0)
		must(t, u.Setattr(n, SetAttr{Size: &zero}, nil))
		must(t, u.unlink(name))
		again, err := u.walk(other)
		must(t, err)
		if again != n {
			t.Errorf("%s: two objects for one file", found)
		}
		u.Forget(n, 1)
		u.Forget(again, 1)
	}
}
