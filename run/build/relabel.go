package build

import (
	"encoding/csv"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dropRelabels removes what RUN --mount says of SELinux labels, which Podman knows and the grammar does not: files of mounts keep theirs.
func dropRelabels(file *parser.Node) {
	for _, n := range file.Children {
		if !strings.EqualFold(n.Value, command.Run) {
			continue
		}
		for i, flag := range n.Flags {
			if mount, ok := strings.CutPrefix(flag, "--mount="); ok {
				n.Flags[i] = "--mount=" + withoutRelabel(mount)
			}
		}
	}
}

// withoutRelabel leaves what it cannot read to those who tell of it.
func withoutRelabel(mount string) string {
	fields, err := csv.NewReader(strings.NewReader(mount)).Read()
	if err != nil || !slices.ContainsFunc(fields, isRelabel) {
		return mount
	}
	var out strings.Builder
	w := csv.NewWriter(&out)
	_ = w.Write(slices.DeleteFunc(fields, isRelabel)) // into memory
	w.Flush()
	return strings.TrimSuffix(out.String(), "\n")
}

func isRelabel(field string) bool {
	return slices.Contains([]string{"z", "Z", "relabel=shared", "relabel=private"}, field)
}
