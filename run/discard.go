package run

import (
	"errors"
	"fmt"
	"os"

	"mica/run/sandbox"
)

// discardTree deletes a directory tree in which processes of containers may
// have made files with subordinate ids.
func discardTree(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, os.ErrPermission) {
		var ids sandbox.IDMap
		if ids, err = sandbox.ResolveIDs(sandbox.IDsFull); err == nil {
			err = inUserNamespace(ids, nil, nil, "remove", dir)
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", dir, err)
	}
	return nil
}
