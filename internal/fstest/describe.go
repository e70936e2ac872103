package fstest

import (
	"fmt"
	"strings"
)

// String lists a scene's layers, topmost first, one object a line.
func (s *Scene) String() string {
	var b strings.Builder
	for i := len(s.Layers) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "layer %d (spelling %d)\n", i, s.Layers[i].Spelling)
		describeNode(&b, "", s.Layers[i].Root, map[*Node]string{})
	}
	return b.String()
}

func describeNode(b *strings.Builder, path string, n *Node, seen map[*Node]string) {
	fmt.Fprintf(b, "  %q %c", short([]byte(path)), n.Kind)
	if first, ok := seen[n]; ok {
		fmt.Fprintf(b, " link to %q\n", first)
		return
	}
	seen[n] = path
	if n.Kind != Whiteout {
		fmt.Fprintf(b, " %#o %d:%d", n.Perm, n.UID, n.GID)
	}
	if n.Opaque {
		b.WriteString(" opaque")
	}
	if n.Kind == File {
		fmt.Fprintf(b, " size=%d extents=%d", n.Data.Size, len(n.Data.Extents))
	}
	if n.Target != "" {
		fmt.Fprintf(b, " -> %q", n.Target)
	}
	for k, v := range n.Xattrs {
		fmt.Fprintf(b, " %s=%s", k, v)
	}
	b.WriteByte('\n')
	for _, name := range n.Names() {
		describeNode(b, strings.TrimPrefix(path+"/"+name, "/"), n.Kids[name], seen)
	}
}
