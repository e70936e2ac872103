// Package imageref reads names of images by the grammar that the distribution
// project's reference package defines and Docker follows:
//
//	reference := [domain "/"] path [":" tag] ["@" algorithm ":" hex]
//
// A name without a domain is one of Docker's hub, where names without a
// slash are below "library"; both parts are left out of the short form. The grammar is read by hand because
// its regular expressions take a millisecond to compile, at every start of every process.
package imageref

import (
	"errors"
	"fmt"
	"strings"
)

// Ref is a name that was read.
type Ref struct {
	Name   string // in short form: "debian", "user/app", "host.example:5000/app"
	Full   string // with the hub: "docker.io/library/debian"
	Tag    string // without the colon; empty: none
	Digest string // "sha256:HEX"; empty: none
}

// Hub is the domain of names without one.
const Hub = "docker.io"

const (
	oldHub      = "index.docker.io"
	library     = "library/"
	defaultTag  = "latest"
	maxName     = 255
	maxTag      = 128
	shortestHex = 32
)

// Tagged is NAME:TAG in short form, with the default tag where none was given.
func (r Ref) Tagged() string { return r.Name + ":" + r.tag() }

// FullTagged is NAME:TAG with the hub.
func (r Ref) FullTagged() string { return r.Full + ":" + r.tag() }

// String is the name in short form with its digest, or else its tag.
func (r Ref) String() string {
	if r.Digest != "" {
		return r.Name + "@" + r.Digest
	}
	return r.Tagged()
}

// FullString is String with the hub.
func (r Ref) FullString() string {
	if r.Digest != "" {
		return r.Full + "@" + r.Digest
	}
	return r.FullTagged()
}

// Path is the repository on its registry.
func (r Ref) Path() string {
	_, path, _ := strings.Cut(r.Full, "/")
	return path
}

// Domain is the registry's host, and port if one is given; the hub has a domain too.
func (r Ref) Domain() string {
	domain, _, _ := strings.Cut(r.Full, "/")
	return domain
}

// Reference is what a registry finds the image by: the digest, or else the tag.
func (r Ref) Reference() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.tag()
}

func (r Ref) tag() string {
	if r.Tag == "" {
		return defaultTag
	}
	return r.Tag
}

// Parse reads a name.
func Parse(s string) (Ref, error) {
	if len(s) == 64 && all(s, isHex) {
		return Ref{}, errors.New("64 hexadecimal digits are an ID, not a name")
	}
	var r Ref
	rest, digest, has := strings.Cut(s, "@")
	if has {
		if !validDigest(digest) {
			return Ref{}, fmt.Errorf("digest %q: want ALGORITHM:HEX", digest)
		}
		r.Digest = digest
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		if !validTag(rest[i+1:]) {
			return Ref{}, fmt.Errorf("tag %q: want letters, digits, '_', '.', '-', at most %d, not beginning with '.' or '-'", rest[i+1:], maxTag)
		}
		rest, r.Tag = rest[:i], rest[i+1:]
	}
	domain, path := splitDomain(rest)
	if path != strings.ToLower(path) {
		return Ref{}, errors.New("it must be lowercase")
	}
	if !validDomain(domain) {
		domain, path = "", rest // it may still be the first part of a path
	}
	if !validPath(path) {
		return Ref{}, errors.New("want parts of lower-case letters and digits, separated by '/', '.', '_', '-'")
	}
	if domain == oldHub {
		domain = Hub
	}
	if domain == Hub && !strings.Contains(path, "/") {
		path = library + path
	}
	if len(path) > maxName {
		return Ref{}, fmt.Errorf("a name has at most %d characters", maxName)
	}
	r.Full = domain + "/" + path
	switch domain {
	case "":
		r.Name, r.Full = path, path
	case Hub:
		r.Name = path
		if short := strings.TrimPrefix(path, library); !strings.Contains(short, "/") {
			r.Name = short
		}
	default:
		r.Name = r.Full
	}
	return r, nil
}

// splitDomain parts a name at its first slash if what stands before it can only
// be a host: it has a dot, a colon, a capital, or is localhost.
func splitDomain(s string) (domain, path string) {
	first, rest, ok := strings.Cut(s, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first {
		return Hub, s
	}
	return first, rest
}

func validDomain(s string) bool {
	if strings.HasPrefix(s, "[") {
		addr, rest, ok := strings.Cut(s[1:], "]")
		return ok && addr != "" && all(addr, func(c byte) bool { return c == ':' || isHex(c) || c >= 'A' && c <= 'F' }) &&
			(rest == "" || rest[0] == ':' && validPort(rest[1:]))
	}
	host, port, has := strings.Cut(s, ":")
	if has && !validPort(port) {
		return false
	}
	for part := range strings.SplitSeq(host, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' || !all(part, func(c byte) bool { return isWord(c) && c != '_' || c == '-' }) {
			return false
		}
	}
	return true
}

func validPort(s string) bool { return s != "" && all(s, isDigit) }

// validPath tells whether all parts between slashes are runs of letters and
// digits joined by one dot, one or two underscores, or any number of dashes.
func validPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !validPathPart(part) {
			return false
		}
	}
	return true
}

func validPathPart(s string) bool {
	for {
		n := 0
		for n < len(s) && (isDigit(s[n]) || s[n] >= 'a' && s[n] <= 'z') {
			n++
		}
		if n == 0 {
			return false
		}
		if s = s[n:]; s == "" {
			return true
		}
		switch {
		case s[0] == '.':
			s = s[1:]
		case strings.HasPrefix(s, "__"):
			s = s[2:]
		case s[0] == '_':
			s = s[1:]
		case s[0] == '-':
			s = strings.TrimLeft(s, "-")
		default:
			return false
		}
	}
}

func validTag(s string) bool {
	return s != "" && len(s) <= maxTag && isWord(s[0]) && all(s, func(c byte) bool { return isWord(c) || c == '.' || c == '-' })
}

// validDigest tells whether s is of a form that digests have; those of sha256
// must be of its length.
func validDigest(s string) bool {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok || len(hex) < shortestHex || !all(hex, isHex) {
		return false
	}
	switch algorithm {
	case "sha256":
		return len(hex) == 64
	case "sha384":
		return len(hex) == 96
	case "sha512":
		return len(hex) == 128
	}
	return false
}

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

// CanBeID tells whether s can be an ID, 64 hexadecimal digits, or the beginning of one.
func CanBeID(s string) bool { return s != "" && len(s) <= 64 && all(s, isHex) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool   { return isDigit(c) || c >= 'a' && c <= 'f' }
func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}
