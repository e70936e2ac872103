package fstest

// Options says what a run does.
type Options struct {
	Scene  SceneOptions
	Ops    int    // how many operations
	Actors []Cred // who does them; at least one
	// CompareEvery is how many operations pass between comparisons of whole
	// trees, 0 for 40. Every fourth one reads all contents, the others those
	// of files that were worked on.
	CompareEvery int
	RemountEvery int  // mean operations between remounts, 0 for never
	CrashEvery   int  // mean operations between kills of the server, all files being synced before; 0 for never
	ForgetEvery  int  // mean operations between droppings of kernel caches, 0 for never; needs real root
	Devices      bool // the actors may make device nodes
	Trusted      bool // the actors may set trusted and security attributes
	ACLs         bool // set POSIX ACLs too
	// Stored says that the union keeps owners and modes in attributes, and so
	// do the layers.
	Stored bool
	// NoCollapse leaves out the fallocate modes that move data, which the
	// kernel's FUSE refuses for every server.
	NoCollapse bool
	// UnstableInodes says that the union gives new inode numbers at a remount.
	UnstableInodes bool
	// UnstableSpecial says that the union may give new inode numbers to
	// symlinks, FIFOs, sockets and devices when it copies them up.
	UnstableSpecial bool
	// Tolerate may call a difference of results known, with a word for it.
	Tolerate func(o Op, plain, union Result) string
	// Done is called after each operation with what the plain side gave.
	Done func(o Op, plain Result)
	// Known is called with each tolerated difference's word.
	Known func(word string)
}

func (o *Options) setDefaults() {
	if len(o.Actors) == 0 {
		o.Actors = []Cred{{}}
	}
	if o.CompareEvery == 0 {
		o.CompareEvery = 40
	}
	if len(o.Scene.IDs) == 0 {
		o.Scene.IDs = []uint32{0}
	}
	if len(o.Scene.Spellings) == 0 {
		o.Scene.Spellings = []Spelling{Device}
	}
	if o.Scene.MaxLayers == 0 {
		o.Scene.MaxLayers = 5
	}
}
