package dropin

// misspelt gives the directory's option that an unknown one is one letter away from. To go on without it would mount
// something else than what was asked for: without an upper directory, read-only.
func misspelt(key string) string {
	for _, name := range []string{"lowerdir", "upperdir", "workdir"} {
		if oneEdit(key, name) {
			return name
		}
	}
	return ""
}

// oneEdit tells whether a becomes b by one letter more, less or other, or by two neighbours that change places.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(b) == len(a)+1:
		return a[i:] == b[i+1:]
	case len(a) != len(b) || i == len(a):
		return false
	}
	return a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
