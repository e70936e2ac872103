package bench

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// task is what the parent asks of one agent.
type task struct {
	// Do is "sample", "fixture", "probe" or "remove".
	Do       string
	Workload string
	Peer     peerSpec
	Scale    scale
	// Fixture is the directory of the workload's fixture, Scratch one that the agent may fill and must not need later.
	Fixture, FixtureName string
	Layers               int
	Scratch              string
	// Namespaces says that the agent was started in namespaces of its own.
	Namespaces bool
	// Mica is the binary under test, RootDir and Deb as in Options.
	Mica, RootDir, Deb string
	// Tar is the archive of the container workloads' root filesystem, Store a directory for stores.
	Store string
}

// message is what an agent says, one JSON object per line.
type message struct {
	// Ask is "drop": drop the caches, then answer with a line "dropped" or "kept".
	Ask    string  `json:",omitempty"`
	Result *sample `json:",omitempty"`
	Err    string  `json:",omitempty"`
}

// sample is one measurement.
type sample struct {
	// Value is in the workload's unit: seconds of one pass, or kB.
	Value float64
	// Ops is the number of operations of one pass, Passes how many passes Value is the median of.
	Ops, Passes int
	// Answer is what must be equal on all peers.
	Answer string
	// Requests counts FUSE requests of one pass by opcode: empty where there was none, nil where the server does not
	// say. The two must stay apart in JSON.
	Requests map[string]float64
	// ServerCPU is seconds of processor time that the peer's server took for one pass, -1 without a server.
	ServerCPU float64
	// ServerKB is the resident memory of the server after the passes, 0 without a server.
	ServerKB int64
	// Dropped says that caches were dropped before a cold pass; otherwise only the mount was fresh.
	Dropped bool
	// Note is a remark for the reader, such as that a rename had to copy.
	Note string `json:",omitempty"`
	// Took is how long the sample took in all.
	Took time.Duration
}

// peerKind says how a peer's tree comes to be.
type peerKind string

const (
	peerFlat    peerKind = "directory" // a plain directory
	peerKernel  peerKind = "kernel"    // overlayfs, mounted by the agent
	peerCommand peerKind = "command"   // a command that mounts
	peerTool    peerKind = "tool"      // a program that is measured itself
)

// peerSpec is a peer as agents and reports know it.
type peerSpec struct {
	Name string
	Kind peerKind
	// Dir is the existing directory to work in, of a flat peer.
	Dir string `json:",omitempty"`
	// Argv mounts; each element may hold {lower}, {upper}, {work}, {dir}, {stats} and {catalogs}.
	Argv []string `json:",omitempty"`
	// Version is what the program says of itself, or the kernel's release.
	Version string `json:",omitempty"`
}

// expand fills the places of a mount command.
func (p *peerSpec) expand(places map[string]string) []string {
	pairs := make([]string, 0, 2*len(places))
	for k, v := range places {
		pairs = append(pairs, "{"+k+"}", v)
	}
	r := strings.NewReplacer(pairs...)
	out := make([]string, len(p.Argv))
	for i, a := range p.Argv {
		out[i] = r.Replace(a)
	}
	return out
}

// hasStats says whether the peer's command writes request counts.
func (p *peerSpec) hasStats() bool { return strings.Contains(strings.Join(p.Argv, " "), "{stats}") }

// parsePeer parses NAME=COMMAND. A command with no places is taken to accept what fuse-overlayfs accepts.
func parsePeer(s string) (peerSpec, error) {
	name, cmd, ok := strings.Cut(s, "=")
	if !ok || name == "" || strings.TrimSpace(cmd) == "" {
		return peerSpec{}, fmt.Errorf("parse peer %q: want NAME=COMMAND, with {lower}, {upper}, {work} and {dir} in the command", s)
	}
	if strings.ContainsAny(name, " /,*") {
		return peerSpec{}, fmt.Errorf("parse peer %q: a name has no blanks, slashes, commas or stars", name)
	}
	if !strings.Contains(cmd, "{dir}") {
		cmd += " -o lowerdir={lower},upperdir={upper},workdir={work} {dir}"
	}
	// The command is the user's own shell text; what is put in reaches it as positional parameters, never as text.
	shell := cmd
	names := []string{"lower", "upper", "work", "dir", "stats"}
	argv := []string{"sh", "-c", "", "sh"}
	for i, n := range names {
		shell = strings.ReplaceAll(shell, "{"+n+"}", fmt.Sprintf(`"$%d"`, i+1))
	}
	argv[2] = shell
	used := names
	if !strings.Contains(cmd, "{stats}") {
		used = names[:4]
	}
	for _, n := range used {
		argv = append(argv, "{"+n+"}")
	}
	return peerSpec{Name: name, Kind: peerCommand, Argv: argv, Version: path.Base(strings.Fields(cmd)[0])}, nil
}
