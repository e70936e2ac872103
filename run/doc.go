// Package run makes, runs and inspects containers. There is no daemon: every
// running container has a supervisor of its own, a process of this executable.
// [Engine] is what commands ask; what containers are made of has packages below this one.
//
// # Who does what
//
//	command                          supervisor (own session)
//	resolve image, unpack layers
//	make containers/ID, lock it  --> inherits the lock and one end of a socket pair
//	Start{layers}                --> cow.Open over layers and upper
//	                                 sandbox.Start, fs serves its root
//	terminal raw, streams        <-> terminal or pipes, log
//	exit code                    <-- writes state.json, gives up the lock
//
// Whatever needs the container's filesystem (commit, diff, export, copies) is
// done by the supervisor while it runs, since it alone knows what is not on disk
// yet, and by the command itself, under the container's lock, when it does not.
// [Engine.withTree] is the one place that decides; the supervisor is package supervise.
//
// A container's lock on disk (package record) comes before the store's.
package run
