package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestBuildCopyRules are those of BuildKit where others come to mind.
func TestBuildCopyRules(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{
		"Dockerfile": `FROM base
COPY shut /a/
COPY --chmod=641 shut /b
COPY --exclude=*.txt hom* /c/
COPY --parents **/deep/./g x/./y/z* /d/
COPY --parents deep/in/g /e/
COPY *.none /f/
ADD *.none home.g* /g/
COPY --parents */./none deep/./*.none /h/
ENV PATH=$PATH:/more
RUN stat -c '%n %a' /a /a/f /b /b/f /d/* /e/deep /e/deep/in > /modes; ls /c > /names; ls /d /d/y /g >> /names; ls -d /[fh] >> /names 2>/dev/null; echo $PATH > /path
`,
		"shut/f": "", "home.go": "", "home.txt": "", "deep/in/g": "", "deep/g": "", "x/y/z1": "", "x/y/z2": "",
	})
	for _, p := range []string{"shut", "deep"} {
		if err := os.Chmod(filepath.Join(dir, p), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c.built("-t", "rules", dir)
	want := "/a 755\n/a/f 644\n/b 755\n/b/f 641\n/d/g 644\n/d/y 755\n/e/deep 700\n/e/deep/in 755\n" +
		"home.go\n/d:\ng\ny\n\n/d/y:\nz1\nz2\n\n/g:\nhome.go\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/more"
	if got := c.ok("run", "--rm", "rules", "cat", "/modes", "/names", "/path"); got != want {
		t.Errorf("it holds\n%s\nwant\n%s", got, want)
	}
}

// TestBuildLinks: symlinks on the way lead where they would lead in the container, and an excluded name takes no other with it.
func TestBuildLinks(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{"Dockerfile": `FROM base AS a
RUN mkdir -p /b/c /b/x /x && ln -s b/c /a && ln -s ../x /b/c/link && echo right > /b/x/f && echo wrong > /x/f
FROM a
COPY --from=a /a/link/f /taken
COPY d /a/link/
COPY --exclude=one d /e/
`, "d/one": "1", "d/s": "-> one"})
	if err := os.Link(filepath.Join(dir, "d/one"), filepath.Join(dir, "d/two")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "d/one"), filepath.Join(dir, "d/zwei")); err != nil {
		t.Fatal(err)
	}
	c.built("-t", "links", dir)
	if got := c.ok("run", "--rm", "links", "sh", "-c", "cat /taken; ls /b/x /x /e; cat /e/two; stat -c %h /e/zwei"); got != "right\n/b/x:\nf\none\ns\ntwo\nzwei\n\n/e:\ns\ntwo\nzwei\n\n/x:\nf\n12" {
		t.Errorf("it holds %q", got)
	}
}

// TestBuildAdd fetches and unpacks.
func TestBuildAdd(t *testing.T) {
	c := newCLI(t)
	archive := compressed(t, "f\n",
		&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 5, Gid: 6}, &tar.Header{Name: "d/f", Mode: 0o640, Uid: 5, Gid: 6},
		&tar.Header{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"}, &tar.Header{Name: "d/soft", Typeflag: tar.TypeSymlink, Linkname: "f"})
	server := httptest.NewServer(http.FileServer(http.Dir(buildContext(t, map[string]string{"dir/file": "fetched\n"}))))
	defer server.Close()
	dir := buildContext(t, map[string]string{
		"Dockerfile": "FROM base\nARG URL\nADD a.tar.gz /unpacked\nCOPY a.tar.gz /copied\nADD plain.gz /plain/\n" +
			"ADD --checksum=sha256:" + digestOf("fetched\n") + " $URL/dir/file /net/\nADD --chmod=600 $URL/dir/file /net/other\n",
		"a.tar.gz": archive, "plain.gz": "no archive",
	})
	c.built("-t", "added", "--build-arg", "URL="+server.URL, dir)
	got := c.ok("run", "--rm", "added", "sh", "-c", "cd /unpacked/d; stat -c '%n %a %u:%g %h' . f; readlink soft; test -f /copied && cat /plain/plain.gz /net/file /net/other; stat -c %a /net/file")
	if got != ". 750 5:6 2\nf 640 5:6 2\nf\nno archivefetched\nfetched\n600" {
		t.Errorf("it holds %q", got)
	}
	c.fails(125, "its digest is", "build", "-q", buildContext(t, map[string]string{"Dockerfile": "FROM base\nADD --checksum=sha256:" + digestOf("other") + " " + server.URL + "/dir/file /f\n"}))
	c.fails(125, "404", "build", "-q", buildContext(t, map[string]string{"Dockerfile": "FROM base\nADD " + server.URL + "/none /f\n"}))
}

// compressed is an archive of these entries; files have the content.
func compressed(t *testing.T, content string, entries ...*tar.Header) string {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, h := range entries {
		if isFile := h.Typeflag == 0; isFile {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			fmt.Fprint(tw, content)
		}
	}
	tw.Close()
	gz.Close()
	return out.String()
}

// TestBuildSeveral: several sources need no slash where the first is a directory, or is unpacked into one.
func TestBuildSeveral(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{
		"Dockerfile": "FROM scratch\nADD *.tar /a\nADD *.tar file /b\nCOPY d e /c\nCOPY d file /d\n",
		"1.tar":      compressed(t, "1", &tar.Header{Name: "one", Mode: 0o644}), "2.tar": compressed(t, "2", &tar.Header{Name: "two", Mode: 0o644}),
		"d/d": "", "e/e": "", "file": "",
	})
	if got := c.builtFiles(dir); got != "a a/one a/two b b/file b/one b/two c c/d c/e d d/d d/file" {
		t.Errorf("the image has %q", got)
	}
}

// TestBuildReplace: what is unpacked takes the place of anything but a directory on the way to it, what is copied that of no
// directory, nor a directory that of anything else.
func TestBuildReplace(t *testing.T) {
	c := newCLI(t)
	dir := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Mode: 0o644} }
	files := map[string]string{
		"made.tar": compressed(t, "", dir("d"), file("d/f"), &tar.Header{Name: "to", Typeflag: tar.TypeSymlink, Linkname: "d"}, dir("full"), dir("full/sub"), file("full/sub/f"), file("f")),
		"dir.tar":  compressed(t, "", dir("x"), file("x/new")), "file.tar": compressed(t, "new", file("x")), "below.tar": compressed(t, "", file("x/new")),
		"link.tar":  compressed(t, "", file("y"), &tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}),
		"own.tar":   compressed(t, "", &tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "d"}, file("x/new"), dir("z"), dir("z/z"), file("z")),
		"dir/x/new": "", "file/x": "",
	}
	for _, e := range []struct{ add, over, want string }{
		{"ADD dir.tar", "f", "d d/f full full/sub full/sub/f to x x/new"},
		{"ADD dir.tar", "to", "d d/f f full full/sub full/sub/f x x/new"},
		{"ADD dir.tar", "full", "d d/f f to x x/new x/sub x/sub/f"},
		{"ADD file.tar", "full", "d d/f f to x"},
		{"ADD file.tar", "to", "d d/f f full full/sub full/sub/f x"},
		{"ADD link.tar", "full", "d d/f f to x y"},
		{"ADD below.tar", "to", "d d/f d/new f full full/sub full/sub/f x"},
		{"ADD below.tar", "f", "fails: /x is in the image, and no directory"},
		{"ADD own.tar", "f", "d d/f d/new full full/sub full/sub/f to x z"},
		{"COPY dir", "f", "fails: a directory does not replace something else"},
		{"COPY dir", "to", "fails: a directory does not replace something else"},
		{"COPY file", "full", "fails: nor something else a directory"},
		{"COPY file", "to", "d d/f f full full/sub full/sub/f x"},
	} {
		files["Dockerfile"] = "FROM base AS made\nADD made.tar /r/\nRUN mv /r/" + e.over + " /r/x\nFROM scratch\nCOPY --from=made /r /\n" + e.add + " /\n"
		context := buildContext(t, files)
		if reason, fails := strings.CutPrefix(e.want, "fails: "); fails {
			c.fails(125, reason, "build", "-q", context)
		} else if got := c.builtFiles(context); got != e.want {
			t.Errorf("%s over %s: %s, want %s", e.add, e.over, got, e.want)
		}
	}
}

// digestOf is the SHA-256 of a text.
func digestOf(text string) string { return digest.FromString(text).Encoded() }
