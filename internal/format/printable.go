package format

import (
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"
	"unicode/utf8"
)

// Printable spells out what a terminal would obey or could not show.
func Printable(s string) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// cell is the value of a cell of a table, in which nothing begins another cell or row.
func cell(value any) string { return Printable(fmt.Sprint(value)) }

// makeCells has a template print cells: all that it prints goes through the function cell at last.
func makeCells(t *template.Template) {
	t.Funcs(template.FuncMap{"cell": cell})
	cellsOf(t.Root)
}

func cellsOf(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				through := parse.NewIdentifier("cell").SetPos(n.Pos)
				n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{through}})
			}
		case *parse.IfNode:
			cellsOf(n.List)
			cellsOf(n.ElseList)
		case *parse.RangeNode:
			cellsOf(n.List)
			cellsOf(n.ElseList)
		case *parse.WithNode:
			cellsOf(n.List)
			cellsOf(n.ElseList)
		}
	}
}
