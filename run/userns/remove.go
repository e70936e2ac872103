package userns

import (
	"errors"
	"fmt"
	"os"
)

// RemoveAll deletes a directory tree in which processes of containers may
// have made files with subordinate ids.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, os.ErrPermission) {
		err = RunDefault("remove", dir)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", dir, err)
	}
	return nil
}
