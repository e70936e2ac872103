package run

import (
	"errors"
	"fmt"
	"os"
)

// discardTree deletes a directory tree in which processes of containers may
// have made files with subordinate ids.
func discardTree(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, os.ErrPermission) {
		err = withContainerIDs("remove", dir)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", dir, err)
	}
	return nil
}
