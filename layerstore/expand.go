package layerstore

import (
	"errors"
	"fmt"
	"strings"
)

// splitWords splits at blanks that are neither quoted nor escaped. Quotes and
// backslashes stay, for expand to read. text is not blank.
func splitWords(text string) []string {
	var words []string
	var word strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(text); i++ {
		ch := text[i]
		blank := ch == ' ' || ch == '\t'
		if quote == 0 && blank {
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			continue
		}
		inWord = true
		switch {
		case ch == '\\' && quote != '\'':
			if i+1 == len(text) {
				continue
			}
			word.WriteByte(ch)
			i++
			ch = text[i]
		case quote == 0 && (ch == '"' || ch == '\''):
			quote = ch
		case ch == quote:
			quote = 0
		}
		word.WriteByte(ch)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// expand takes the quotes off a word and puts in the values of variables, by
// the rules of a Dockerfile, from the environment of the image.
func (e *changeEditor) expand(text string) (string, error) {
	x := expander{text: text, lookup: e.lookup}
	return x.until(0)
}

func (e *changeEditor) lookup(name string) (string, bool) {
	for _, entry := range e.c.Env {
		if n, v, _ := strings.Cut(entry, "="); n == name {
			return v, true
		}
	}
	return "", false
}

type expander struct {
	text   string
	pos    int
	lookup func(string) (string, bool)
}

func (x *expander) more() bool { return x.pos < len(x.text) }

// until expands up to the byte stop, which it consumes; 0 means the end.
func (x *expander) until(stop byte) (string, error) {
	var out strings.Builder
	for x.more() {
		ch := x.text[x.pos]
		if stop != 0 && ch == stop {
			x.pos++
			return out.String(), nil
		}
		var part string
		var err error
		switch ch {
		case '\'':
			part, err = x.single()
		case '"':
			part, err = x.double()
		case '$':
			part, err = x.dollar()
		case '\\':
			x.pos++
			if x.more() {
				part = x.text[x.pos : x.pos+1]
				x.pos++
			}
		default:
			part = x.text[x.pos : x.pos+1]
			x.pos++
		}
		if err != nil {
			return "", err
		}
		out.WriteString(part)
	}
	if stop != 0 {
		return "", fmt.Errorf("%q is missing", stop)
	}
	return out.String(), nil
}

func (x *expander) single() (string, error) {
	end := strings.IndexByte(x.text[x.pos+1:], '\'')
	if end < 0 {
		return "", errors.New("a single quote is not closed")
	}
	part := x.text[x.pos+1 : x.pos+1+end]
	x.pos += end + 2
	return part, nil
}

func (x *expander) double() (string, error) {
	var out strings.Builder
	for x.pos++; x.more(); {
		ch := x.text[x.pos]
		switch ch {
		case '"':
			x.pos++
			return out.String(), nil
		case '$':
			part, err := x.dollar()
			if err != nil {
				return "", err
			}
			out.WriteString(part)
			continue
		case '\\':
			// Inside double quotes a backslash escapes only what is special there.
			if x.pos+1 < len(x.text) && strings.IndexByte(`"$\`, x.text[x.pos+1]) >= 0 {
				x.pos++
				ch = x.text[x.pos]
			}
		}
		out.WriteByte(ch)
		x.pos++
	}
	return "", errors.New("a double quote is not closed")
}

// dollar expands $NAME, ${NAME}, and ${NAME} with one of the modifiers
// :- - :+ + :? ? and a word.
func (x *expander) dollar() (string, error) {
	x.pos++
	if !x.more() || x.text[x.pos] != '{' {
		name := x.name()
		if name == "" {
			return "$", nil
		}
		value, _ := x.lookup(name)
		return value, nil
	}
	x.pos++
	name := x.name()
	if name == "" || !x.more() {
		return "", errors.New("a ${NAME} is malformed")
	}
	value, set := x.lookup(name)
	modifier := x.text[x.pos]
	x.pos++
	if modifier == '}' {
		return value, nil
	}
	if modifier == ':' && x.more() {
		set = set && value != "" // with a colon, empty is as good as unset
		modifier = x.text[x.pos]
		x.pos++
	}
	word, err := x.until('}')
	if err != nil {
		return "", err
	}
	switch modifier {
	case '-':
		if !set {
			return word, nil
		}
		return value, nil
	case '+':
		if set {
			return word, nil
		}
		return "", nil
	case '?':
		if !set {
			return "", fmt.Errorf("variable %s: %s", name, word)
		}
		return value, nil
	}
	return "", fmt.Errorf("variable %s: unknown modifier %q", name, modifier)
}

// name reads a variable's name: letters, digits and _, a number, or one of the
// shell's special parameters, which are never set here.
func (x *expander) name() string {
	start := x.pos
	for x.more() {
		ch := x.text[x.pos]
		first := x.pos == start
		switch {
		case ch == '_' || 'a' <= ch && ch <= 'z' || 'A' <= ch && ch <= 'Z':
		case '0' <= ch && ch <= '9':
		case first && strings.IndexByte("@*#?-$!", ch) >= 0:
			x.pos++
			return x.text[start:x.pos]
		default:
			return x.text[start:x.pos]
		}
		x.pos++
		if first && '0' <= ch && ch <= '9' {
			for x.more() && '0' <= x.text[x.pos] && x.text[x.pos] <= '9' {
				x.pos++
			}
			return x.text[start:x.pos]
		}
	}
	return x.text[start:x.pos]
}
