package fstest

// Place is where a union under test lives: its layers, topmost first as mount
// options want them, its writable directories and its mountpoint. All exist.
type Place struct {
	Lowers              []string
	Upper, Work, Merged string
}

// Union is a union filesystem under test.
type Union interface {
	// Mount shows the union of a place at its Merged directory.
	Mount(p Place) error
	// Unmount undoes Mount and returns once everything is on disk.
	Unmount(p Place) error
	// Native tells that no union is made: Merged is a plain directory that
	// gets the merged tree written to it.
	Native() bool
}

// Crasher is a union whose server can be killed.
type Crasher interface {
	// Crash kills the server and takes its mount away.
	Crash(p Place) error
}

// Plain is no union: it tests the generator against itself.
type Plain struct{}

// Mount does nothing.
func (Plain) Mount(Place) error { return nil }

// Unmount does nothing.
func (Plain) Unmount(Place) error { return nil }

// Native is true.
func (Plain) Native() bool { return true }
