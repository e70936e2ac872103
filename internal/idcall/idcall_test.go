package idcall

import "testing"

func TestParse(t *testing.T) {
	node := NodeName("abc", "a:b\xff", 0o20620, 1<<31+5, 7, 8)
	for attr, want := range map[string]Request{
		OwnerName("abc"): {Op: Owner}, node: {Op: Node, Name: "a:b\xff", Mode: 0o20620, Rdev: 1<<31 + 5, UID: 7, GID: 8},
		OwnerName("other"): {}, "user.x": {}, "security.capability": {},
	} {
		if got, err := Parse("abc", attr); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", attr, got, err, want)
		}
	}
	if got, err := Parse("", prefix+".owner"); err != nil || got.Op != None {
		t.Errorf("without a token: %+v, %v", got, err)
	}
	for _, bad := range []string{prefix + "abc.node:1", prefix + "abc.node:9:0:0:0:x", prefix + "abc"} {
		if _, err := Parse("abc", bad); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

func TestOwner(t *testing.T) {
	for _, ids := range [][2]uint32{{0, 0}, {1000, Keep}, {Keep, 42}, {Keep - 1, Keep}} {
		uid, gid, err := ParseOwner(FormatOwner(ids[0], ids[1]))
		if err != nil || uid != ids[0] || gid != ids[1] {
			t.Errorf("%v: got %d, %d, %v", ids, uid, gid, err)
		}
	}
	for _, bad := range []string{"", "1", "x:1", "-1:0", "4294967296:0"} {
		if _, _, err := ParseOwner(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
