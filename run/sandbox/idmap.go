package sandbox

// IDMode selects how ids in the sandbox relate to the host's.
type IDMode int

const (
	IDsAuto   IDMode = iota // IDsFull where the user has subordinate ranges and newuidmap is there, else IDsSingle
	IDsFull                 // 0 is the user, 1.. are the user's subordinate ids
	IDsSingle               // 0 is the user, there are no other ids
	IDsKeep                 // the user keeps the own id; the others are subordinate ids, or absent without ranges
)

// IDRange maps Size ids from Inside in the sandbox to Outside on the host.
type IDRange struct{ Inside, Outside, Size uint32 }

// IDMap is a resolved mapping. Helpers says that newuidmap and newgidmap have to write it.
type IDMap struct {
	UIDs, GIDs []IDRange
	Helpers    bool
}
