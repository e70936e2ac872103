//go:build docs

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommands makes the hidden commands that the installation uses.
func docsCommands() []*cobra.Command {
	docs := group("docs", "Write manual pages")
	docs.Hidden = true
	docs.AddCommand(&cobra.Command{
		Use: "man DIR", Short: "Write manual pages into a directory", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "MICA", Section: "1", Source: "mica", Manual: "mica"}, args[0]); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			return nil
		},
	})
	return []*cobra.Command{docs}
}
