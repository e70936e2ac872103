package sandbox

// Caps adjusts the default capability set (the fourteen that Docker gives). Names with or without CAP_, in any case; "ALL".
// Drop is applied before Add, except that an ALL in Add comes first, as in Docker.
type Caps struct{ Add, Drop []string }
