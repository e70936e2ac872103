package main

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/internal/format"
	"mica/layerstore"
	"mica/run/control"
	"mica/run/home"
)

func (a *app) newCommitCommand() *cobra.Command {
	var opt layerstore.CommitOptions
	var pause, quiet bool
	c := &cobra.Command{
		Use:   "commit [flags] CONTAINER [NAME[:TAG]]",
		Short: "Make an image of a container's changes",
		Long: `Make an image of a container: the layers of its image, and one layer more with what the container has changed.
Prints the image's ID. A running container stands still meanwhile unless --pause=false says otherwise.`,
		Example: lines(`mica commit -m "Add node" build node-base`, `mica commit -c "CMD node app.js" -c "ENV PORT=8080" -m "Add app" build sample-app`),
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeContainers(anyState, 1),
	}
	fl := c.Flags()
	fl.StringVarP(&opt.Author, "author", "a", "", "author of the image")
	fl.StringVarP(&opt.Message, "message", "m", "", "comment of the history entry")
	fl.StringArrayVarP(&opt.Changes, "change", "c", nil, "apply an instruction of a Dockerfile, such as 'CMD bash'")
	fl.BoolVarP(&pause, "pause", "p", true, "pause the container while its changes are read")
	fl.BoolVarP(&quiet, "quiet", "q", false, "accepted; the ID is all that is printed")
	c.RunE = tidily(func(c *cobra.Command, args []string) error {
		e, ct, err := a.find(args[0])
		if err != nil {
			return err
		}
		if len(args) == 2 {
			opt.Ref = args[1]
		}
		id, err := e.Commit(c.Context(), ct, control.Commit{Options: opt, Pause: pause})
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, id)
		return nil
	})
	return c
}

// historyRow is one line of history.
type historyRow struct {
	Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string
}

var historyTable = format.Table{
	Header: format.Header{
		"Comment": "COMMENT", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "CreatedSince": "CREATED", "ID": "IMAGE", "Size": "SIZE",
	},
	Default: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
	Quiet:   "{{.ID}}",
}

func (a *app) newHistoryCommand() *cobra.Command {
	var human, noTrunc bool
	var opt format.Options
	c := &cobra.Command{
		Use:               "history [flags] IMAGE",
		Short:             "Show how an image came about",
		Example:           lines("mica history sample-app", "mica history --no-trunc --format '{{.CreatedBy}}: {{.Comment}}' sample-app"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeImages(1),
	}
	c.Flags().BoolVarP(&human, "human", "H", true, "print sizes and dates for people to read")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	c.Flags().BoolVarP(&opt.Quiet, "quiet", "q", false, "print IDs only")
	c.Flags().StringVar(&opt.Format, "format", "", "table, json, or a Go template")
	c.RunE = func(_ *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		img, err := e.Image(args[0])
		if err != nil {
			return err
		}
		s, err := e.Store()
		if err != nil {
			return err
		}
		steps, err := s.History(img)
		if err != nil {
			return err
		}
		table := historyTable
		if !human {
			table.Default = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
		}
		rows := make([]historyRow, 0, len(steps))
		for _, step := range steps {
			rows = append(rows, newHistoryRow(step, human, noTrunc))
		}
		return format.Write(display(), table, opt, rows)
	}
	return c
}

func newHistoryRow(step layerstore.HistoryRow, human, noTrunc bool) historyRow {
	row := historyRow{
		ID: step.ID, CreatedAt: step.Created.Local().Format(time.RFC3339), CreatedSince: format.Ago(step.Created, time.Now()),
		CreatedBy: strings.ReplaceAll(step.CreatedBy, "\t", " "), Size: fmt.Sprint(step.Size), Comment: step.Comment,
	}
	if human {
		row.Size = format.Size(step.Size)
	} else {
		row.CreatedSince = row.CreatedAt
	}
	if !noTrunc {
		row.ID = format.ShortID(row.ID)
		row.CreatedBy = format.Ellipsis(row.CreatedBy, 45)
		row.Comment = format.Ellipsis(row.Comment, 45)
	}
	return row
}

func (a *app) newDiffCommand() *cobra.Command {
	var ofHome bool
	c := &cobra.Command{
		Use:               "diff [flags] CONTAINER",
		Short:             "List the paths that a container has changed",
		Long:              "List the paths that a container has added (A), changed (C) or deleted (D).",
		Example:           lines("mica diff web", "mica diff --home editor"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContainers(anyState, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, ct, err := a.find(args[0])
			if err != nil {
				return err
			}
			out := bufio.NewWriter(stdout)
			shown := func(path string) string { return path }
			if term.IsTerminal(1) {
				shown = format.Printable
			}
			diff := e.Diff
			if ofHome {
				diff = home.Diff
			}
			if err := diff(c.Context(), ct, func(i control.DiffItem) error {
				_, err := fmt.Fprintln(out, i.Kind, shown(i.Path))
				return err
			}); err != nil {
				return err
			}
			return out.Flush()
		},
	}
	c.Flags().BoolVar(&ofHome, "home", false, "list what it has changed in its copy-on-write home directory")
	return c
}
