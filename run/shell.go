package run

import "os"

// defaultCommand is what an image runs that names no command, as one made of a root filesystem: a shell of its layers, topmost
// first; nil where there is none.
func defaultCommand(lowers []string) []string {
	for _, shell := range []string{"bash", "sh"} {
		for _, layer := range lowers {
			if hasProgram(layer, shell) {
				return []string{shell}
			}
		}
	}
	return nil
}

// hasProgram says whether a layer has a program in the usual places.
func hasProgram(layer, name string) bool {
	root, err := os.OpenRoot(layer)
	if err != nil {
		return false
	}
	defer root.Close()
	for _, dir := range []string{"usr/bin", "bin"} {
		if _, err := root.Lstat(dir + "/" + name); err == nil {
			return true
		}
	}
	return false
}
