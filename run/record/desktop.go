package record

import "path/filepath"

// HomeMode says which home directory a container has.
type HomeMode string

// The modes.
const (
	HomePrivate HomeMode = "private" // one of its own, empty at first
	HomeShared  HomeMode = "shared"  // the user's, as it is
	HomeCOW     HomeMode = "cow"     // a copy-on-write view of the user's
)

// Desktop is what a container that belongs to its user's desktop asks of it.
type Desktop struct {
	Display bool     `json:",omitempty"` // the sockets and devices of the desktop
	Home    HomeMode // never empty
	HomeDir string   // of the user; its path in the container too

	// AsUser runs processes as the calling user, whatever the image says.
	AsUser bool `json:",omitempty"`
	// Given are the names of variables that the user has set, which the desktop leaves alone.
	Given []string `json:",omitempty"`
}

// HomeUpper takes the changes of a home directory that is a union of its own.
func (c *Container) HomeUpper() string { return filepath.Join(c.dir, "home-upper") }

// HomeWork is the scratch directory beside it.
func (c *Container) HomeWork() string { return filepath.Join(c.dir, "home-work") }

// HomeTried is a file that says when attempts to write changes to the user's
// home directory were made and taken back.
func (c *Container) HomeTried() string { return filepath.Join(c.dir, "home-tried") }

// HomeStarts is a file that says when the container was started.
func (c *Container) HomeStarts() string { return filepath.Join(c.dir, "home-starts") }

// HomeApplying is a file that is there while changes are written to the user's home directory.
func (c *Container) HomeApplying() string { return filepath.Join(c.dir, "home-applying") }
