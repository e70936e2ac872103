//go:build !docs

package main

import "github.com/spf13/cobra"

// docsCommands are none in the program itself: what writes manual pages costs
// time at every start. Build with -tags docs to have them.
func docsCommands() []*cobra.Command { return nil }
