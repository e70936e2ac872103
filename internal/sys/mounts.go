package sys

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a line of the table of mounts; see proc_pid_mountinfo(5).
type Mount struct {
	Dev   uint64 // of the filesystem
	Root  string // what of the filesystem is mounted
	Point string // where
	Type  string // of the filesystem, with its subtype
}

// Mounts reads the table of mounts of the calling process.
func Mounts() ([]Mount, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	var list []Mount
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		end := slices.Index(fields, "-") // of fields whose number varies
		if end < 6 || end+1 >= len(fields) {
			continue
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil {
			continue
		}
		list = append(list, Mount{Dev: unix.Mkdev(major, minor), Root: unescape(fields[3]), Point: unescape(fields[4]), Type: fields[end+1]})
	}
	return list, nil
}

// unescape reads a path of the table of mounts, in which blanks and backslashes are octal numbers.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
