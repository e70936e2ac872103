package names

import "fmt"

// Check tells whether a name is one that Docker or Podman would allow for a thing of this kind, such as a container.
func Check(kind, name string) error {
	ok := name != "" && len(name) <= 255
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = alnum || i > 0 && (c == '_' || c == '.' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%s name %q: want a letter or digit, then letters, digits, '_', '.' and '-'", kind, name)
	}
	return nil
}
