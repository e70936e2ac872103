// Package ids makes users and groups work in a sandbox whose user namespace has only one id.
//
// Processes there cannot really become another user: to the kernel all of them are the one user that exists. A seccomp
// filter hands the system calls that change or show identity to the init of the sandbox, which answers them from emulated
// credentials, as the kernel would if they were real:
//
//	setuid setgid setre[ug]id setres[ug]id setfs[ug]id setgroups      change the emulated credentials
//	get[e]uid get[e]gid getres[ug]id getgroups                        show them
//	chown lchown fchown fchownat, mknod[at] of devices                 are carried out by the server of the root (see Files)
//	chmod and its like of set-gid bits                                 do not set them for groups that the caller is not in
//	execve execveat                                                    apply set-id bits and capabilities; saved ids follow effective ones
//	getsockopt SO_PEERCRED                                             shows the peer's; nobody once that is gone
//	capget capset, prctl of keep-caps, securebits, the bounding set    follow the user, as capabilities(7) says
//	and ambient capabilities
//	getrlimit setrlimit prlimit64 of RLIMIT_LOCKS                      hide where the credentials live (below)
//	prctl PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS                      is the program's own wish, not that of a tracer
//
// All other calls run at full speed. Set-id programs, su, sudo, package managers and daemons that drop privileges behave, and
// the owners of files are recorded. What is not emulated is protection: every process of the sandbox may do what its one
// user may. An ACL cannot name an id that does not exist.
//
// The kernel shows an owner that does not exist in the namespace as the one user. Programs that copy owners or decide by
// them, and what they start, see the recorded ones: a tracer corrects the results of stat(2) and access(2) for them alone (Trace). Which
// programs those are depends on their names and arguments (SightOf). In the same way ps(1) and its like see the users of processes.
//
// It depends on the kernel whether a program is executed, so a process that is about to change its credentials in that way is
// traced for the moment, and gets them when the new program is there and before it runs.
//
// # What it costs
//
// A notification takes two switches between threads, about 10 µs on an idle machine. A program that never changes its
// identity pays that for each get*id call, of which shells make some at their start, and for each execve. One that gives other
// credentials costs some more, and the first one in a sandbox the start of the tracer. This cannot be
// spared: a filter can only be added by the process itself, only one filter on a process may have a listener, and the one
// that waits for the first change of identity has it. All other calls cost nothing, but for the programs that are
// traced, to which each stat(2) or access(2) is two stops.
//
// # Where the credentials live
//
// In the kernel, with the process: the soft limit of RLIMIT_LOCKS, which Linux has ignored since 2.4.25, holds the number of
// the credentials in a table (Table). Resource limits are inherited over fork and exec, belong to a process exactly as long as it
// lives, and init may set those of others. So there is nothing to clean up but a table that is full (reclaim), no process id
// that could be mistaken for its predecessor's, and no fork to watch. A process that never changed its identity has no limit there: infinity. Processes
// are kept from setting this limit themselves, and see none.
//
// Threads of one process share their limits, so they share emulated credentials. The C library keeps them equal in all
// threads anyway; a program that gives single threads their own ids by raw system calls is not served.
//
// The owner of a new file is asked for by the server of the root, outside of the sandbox, with the thread id of a request:
// View reads the limit from the sandbox's /proc and the table from shared memory, and costs one atomic load as long as nobody
// has changed identity.
//
// # Races
//
// A request names memory and descriptors of the caller, which other threads can change between the reading here and a
// continued call in the kernel. Nothing that protects the host depends on it: every access is made by init,
// inside of the sandbox, with no more rights than the sandbox has. The validity of a notification is checked after
// the caller's memory was read, so that a recycled thread id is never answered for (see seccomp_unotify(2)).
package ids
