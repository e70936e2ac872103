package account

import (
	"reflect"
	"strings"
	"testing"

	"mica/run/sandbox"
)

type fakeFiles map[string]string

func (f fakeFiles) ReadFile(path string) ([]byte, error) { return []byte(f[path]), nil }

var accounts = fakeFiles{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nbroken line\nweb:x:33:34:www:/var/www:/bin/sh\n12:x:55:55::/twelve:/bin/sh\n",
	"/etc/group":  "root:x:0:\nweb:x:34:\naudio:x:29:web,root\nvideo:x:44:web\n",
}

func TestLookupUser(t *testing.T) {
	for _, c := range []struct {
		spec string
		add  []string
		want Identity
		err  string
	}{
		{spec: "", want: Identity{Home: "/root", User: sandbox.User{Groups: []uint32{0, 29}}}},
		{spec: "root", want: Identity{Home: "/root", User: sandbox.User{Groups: []uint32{0, 29}}}},
		{spec: "web", want: Identity{Home: "/var/www", User: sandbox.User{UID: 33, GID: 34, Groups: []uint32{29, 34, 44}}}},
		{spec: "33", want: Identity{Home: "/var/www", User: sandbox.User{UID: 33, GID: 34, Groups: []uint32{29, 34, 44}}}},
		{spec: "web:audio", want: Identity{Home: "/var/www", User: sandbox.User{UID: 33, GID: 29, Groups: []uint32{29}}}},
		{spec: "web:7", want: Identity{Home: "/var/www", User: sandbox.User{UID: 33, GID: 7, Groups: []uint32{7}}}},
		{spec: "1000", want: Identity{Home: "/", User: sandbox.User{UID: 1000, Groups: []uint32{0}}}},
		{spec: "1000:1000", want: Identity{Home: "/", User: sandbox.User{UID: 1000, GID: 1000, Groups: []uint32{1000}}}},
		{spec: "1000", add: []string{"video", "5"}, want: Identity{Home: "/", User: sandbox.User{UID: 1000, Groups: []uint32{0, 5, 44}}}},
		{spec: "12", want: Identity{Home: "/twelve", User: sandbox.User{UID: 55, GID: 55, Groups: []uint32{55}}}}, // a name of digits
		{spec: "nobody", err: "unable to find user nobody"},
		{spec: "web:none", err: "unable to find group none"},
		{spec: "4294967295", err: "unable to find user"},
		{spec: "-1", err: "unable to find user"},
	} {
		got, err := Lookup(accounts, c.spec, c.add)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v", c.spec, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %+v, %v; want %+v", c.spec, got, err, c.want)
		}
	}
}
