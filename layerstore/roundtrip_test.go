package layerstore

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/ondisk"
)

// treeGen makes random trees as streams of changes.
type treeGen struct {
	r       *rand.Rand
	changes []*cow.Change
	want    map[string]node
	files   []string // what hard links may lead to
}

func generateTree(seed uint64) *treeGen {
	g := &treeGen{r: rand.New(rand.NewPCG(seed, 1)), want: make(map[string]node)}
	g.dir(".", 3)
	return g
}

func (g *treeGen) pick(n int) int { return g.r.IntN(n) }

// name gives a name of any bytes that a file may have.
func (g *treeGen) name(used map[string]bool) string {
	for {
		n := 1 + g.pick(12)
		switch g.pick(12) {
		case 0:
			n = 255
		case 1:
			n = 90 + g.pick(100) // past what the plain tar header holds
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyz0123456789-_.+ "[g.pick(41)]
			if g.pick(10) == 0 {
				b[i] = byte(1 + g.pick(255)) // not UTF-8
			}
			if b[i] == '/' {
				b[i] = 'S'
			}
		}
		name := string(b)
		if used[name] || name == "." || name == ".." || strings.HasPrefix(name, ".wh.") {
			continue
		}
		used[name] = true
		return name
	}
}

func (g *treeGen) meta(typ uint32) ondisk.Meta {
	m := ondisk.Meta{Mode: typ | 0o755}
	if g.pick(2) == 0 {
		m.Mode = typ | uint32(g.pick(0o10000))
	}
	if g.pick(2) == 0 {
		m.UID, m.GID = uint32(g.pick(70_000)), g.r.Uint32()&0x7fffffff
	}
	return m
}

func (g *treeGen) time() time.Time {
	switch g.pick(4) {
	case 0:
		return time.Unix(int64(g.pick(1<<31)), 0)
	case 1:
		return time.Unix(-int64(g.pick(1<<30)), int64(g.pick(1_000_000_000)))
	}
	return time.Unix(int64(g.pick(1<<31)), int64(g.pick(1_000_000_000)))
}

func (g *treeGen) xattrs() map[string][]byte {
	if g.pick(3) > 0 {
		return nil
	}
	all := map[string][]byte{
		"user.plain":              []byte("value"),
		"user.empty":              {},
		"user.binary":             {0, '\n', 0xff, '='},
		"security.capability":     {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"trusted.of.the.image":    []byte("t"),
		"system.posix_acl_access": {2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff},
		"user.overlay.opaque":     []byte("y"),
	}
	for k := range all {
		if g.pick(2) == 0 {
			delete(all, k)
		}
	}
	return all
}

func (g *treeGen) content() []byte {
	switch g.pick(5) {
	case 0:
		return nil
	case 1: // mostly holes
		b := make([]byte, g.pick(300_000))
		for range g.pick(4) {
			if len(b) > 0 {
				b[g.pick(len(b))] = 1
			}
		}
		return b
	}
	b := make([]byte, g.pick(20_000))
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return b
}

// add registers a change, and what must come of it.
func (g *treeGen) add(c *cow.Change) {
	g.changes = append(g.changes, c)
	n := node{Meta: c.Meta, Target: c.Target, Mtime: c.Mtime, Opaque: c.Opaque}
	if len(c.Xattrs) > 0 {
		n.Xattrs = make(map[string]string)
		for k, v := range c.Xattrs {
			n.Xattrs[k] = string(v)
		}
	}
	g.want[c.Path] = n
}

func (g *treeGen) dir(path string, depth int) {
	c := &cow.Change{Path: path, Meta: g.meta(unix.S_IFDIR), Mtime: g.time(), Xattrs: g.xattrs()}
	c.Opaque = path != "." && g.pick(8) == 0
	g.add(c)
	used := make(map[string]bool)
	for range 1 + g.pick(8) {
		child := g.name(used)
		if path != "." {
			child = path + "/" + child
		}
		if depth > 0 && g.pick(4) == 0 {
			g.dir(child, depth-1)
			continue
		}
		g.leaf(child)
	}
}

func (g *treeGen) leaf(path string) {
	c := &cow.Change{Path: path, Mtime: g.time(), Xattrs: g.xattrs()}
	switch g.pick(9) {
	case 0:
		c.Meta, c.Target = g.meta(unix.S_IFLNK), strings.Repeat("../t\xff", 1+g.pick(200))
		c.Meta.Mode = unix.S_IFLNK | 0o777
	case 1:
		c.Meta = g.meta(unix.S_IFIFO)
	case 2:
		c.Meta = g.meta([]uint32{unix.S_IFCHR, unix.S_IFBLK}[g.pick(2)])
		c.Meta.Rdev, _ = ondisk.Device(int64(g.pick(4096)), int64(g.pick(1<<20)))
	case 3:
		if len(g.files) > 0 {
			g.link(path)
			return
		}
		fallthrough
	case 4:
		c = &cow.Change{Path: path, Kind: cow.Deleted}
		g.changes = append(g.changes, c)
		g.want[path] = node{Whiteout: true}
		return
	default:
		data := g.content()
		c.Meta, c.Size = g.meta(unix.S_IFREG), int64(len(data))
		c.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		g.add(c)
		n := g.want[path]
		n.Content = sumBytes(data)
		g.want[path] = n
		g.files = append(g.files, path)
		return
	}
	g.add(c)
	g.files = append(g.files, path)
}

// link adds one more name of an earlier file.
func (g *treeGen) link(path string) {
	first := g.files[g.pick(len(g.files))]
	g.changes = append(g.changes, &cow.Change{Path: path, LinkTo: first, Meta: g.want[first].Meta})
	n := g.want[first]
	names := append(strings.Split(n.Links, "|"), path)
	if n.Links == "" {
		names = []string{first, path}
	}
	slices.Sort(names)
	n.Links = strings.Join(names, "|")
	for _, name := range names {
		g.want[name] = n
	}
}

// TestRoundTrip is the law of the store: unpack(commit(tree)) == tree.
func TestRoundTrip(t *testing.T) {
	s := newStore(t)
	for seed := range uint64(60) {
		g := generateTree(seed)
		img, err := s.Commit(context.Background(), nil, fixedChanges(g.changes...), CommitOptions{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		again, err := s.Commit(context.Background(), nil, fixedChanges(g.changes...), CommitOptions{})
		if err != nil || again.Layers[0].DiffID != img.Layers[0].DiffID {
			t.Errorf("seed %d: the same changes give another layer, %v", seed, err)
		}
		diffTrees(t, layerTree(t, s, img), g.want)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	requireClean(t, s)
}

// TestClients: other programs read what mica saves, and unpack the same tree.
func TestClients(t *testing.T) {
	skopeo, umoci := needTool(t, "skopeo", "skopeo"), needTool(t, "umoci", "umoci")
	ctx := context.Background()
	s := newStore(t)
	base, err := s.Import(ctx, bytes.NewReader(compressed(t, gzipped, makeTar(t,
		dir("./"), dir("d"), file("d/kept", "kept"), file("d/gone", "gone"), file("replaced", "old"), dir("o"), file("o/hidden", ""),
	))), "base", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opaque := addedDir("o")
	opaque.Opaque = true
	link := &cow.Change{Path: "link", LinkTo: "replaced"}
	su := addedFile("su", "setuid")
	su.Meta.Mode |= 0o4000
	img, err := s.Commit(ctx, base, fixedChanges(
		addedDir("d"), &cow.Change{Path: "d/gone", Kind: cow.Deleted}, addedFile("d/new", "new"), opaque, addedFile("o/seen", ""),
		addedFile("replaced", "new content"), link, su,
	), CommitOptions{Ref: "app:1", Changes: []string{"CMD /bin/app", "ENV A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	archive := filepath.Join(tmp, "oci.tar")
	save := func(path string, format SaveFormat) {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := s.Save(ctx, f, []string{"app:1"}, format); err != nil {
			t.Fatal(err)
		}
	}
	save(archive, OCIArchive)
	save(filepath.Join(tmp, "docker.tar"), DockerArchive)
	tool := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
		}
		return string(out)
	}
	for _, ref := range []string{"oci-archive:" + archive + ":app:1", "docker-archive:" + tmp + "/docker.tar:app:1"} {
		out := tool(skopeo, "inspect", ref)
		if !strings.Contains(out, img.Created.Format("2006-01-02T15:04:05")) || !strings.Contains(out, "A=b") {
			t.Errorf("skopeo inspect %s: %s", ref, out)
		}
	}
	tool(skopeo, "--insecure-policy", "copy", "docker-archive:"+tmp+"/docker.tar:app:1", "dir:"+tmp+"/dir")
	tool(skopeo, "--insecure-policy", "copy", "oci-archive:"+archive+":app:1", "oci:"+tmp+"/layout:app")
	tool(umoci, "unpack", "--rootless", "--image", tmp+"/layout:app", tmp+"/bundle")
	root := filepath.Join(tmp, "bundle", "rootfs")
	for path, want := range map[string]string{
		"d/kept": "kept", "d/new": "new", "replaced": "new content", "link": "new content", "o/seen": "", "su": "setuid",
	} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("umoci unpacked %s as %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"d/gone", "o/hidden"} {
		if exists(filepath.Join(root, path)) {
			t.Errorf("umoci unpacked %s, which is deleted", path)
		}
	}
	// What skopeo wrote comes back as the image that it was.
	images, err := newStore(t).LoadPath(ctx, tmp+"/layout", LoadOptions{})
	if err != nil || images[0].ID != img.ID {
		t.Errorf("loaded %+v, %v", images, err)
	}
}
