// Package record keeps containers on disk. State lives in files only: whoever
// has the directory knows all there is to know.
//
//	containers/ID/config.json   how the container was made ([Config]); rewritten whole
//	containers/ID/state.json    what became of it ([State]); rewritten whole
//	containers/ID/lock          held (an open-file-description lock) by whoever runs or changes the container
//	containers/ID/upper, work   the container's own layer, and scratch space on the same filesystem
//	containers/ID/log           output of the main process, one JSON object per line
//	containers/ID/rm            marks one that is removed when it has ended
//	containers/ID/sock          control socket of the supervisor
//	containers/names/NAME       symlink to ID: makes names unique without a search
//	containers/.new-ID          a container being made
//	containers/.gone-ID         a container being removed
//
// # What is atomic
//
// A container appears by one rename, with its lock held, and only then gets
// its name: a name that leads nowhere is therefore always left over from a crash and
// free to be taken. It disappears by one rename too. Files are replaced by
// rename. They are not synced: after a power loss a container is as it was some
// seconds before, and what cannot be read is reported, never guessed.
//
// # Who may write
//
// The holder of the lock. It passes from the command that makes a container
// to its supervisor with the open file itself, so there is no moment in between. A
// container whose state says running but whose lock is free has lost its supervisor: it is dead.
package record
