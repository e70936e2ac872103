// Package sandbox runs a process tree in its own Linux namespaces, for a plain user, without a daemon and without a
// set-id helper of its own. It knows nothing of images or layers: it is handed a root filesystem, mounts and a process.
//
// # Words
//
//   - supervisor: the process that calls Start. It keeps the sandbox alive: when it dies, the sandbox dies.
//   - init: process 1 of the sandbox; the supervisor's own executable started again (see Main).
//   - main process: the one that Config.Process describes; the sandbox ends when it ends.
//   - control socket: a private stream socket between supervisor and init that carries every request (see wire.go).
//
// # How a sandbox starts
//
//	supervisor                                   init (new user, mount, pid [, ipc, uts, cgroup, net] namespaces)
//	clone+exec of /proc/self/exe  ------------>  private mounts, clones of device and volume mounts
//	newuidmap | newgidmap (or one direct line)
//	configuration                 ------------>  opens /dev/fuse, mounts the root
//	Root.Server.Serve(descriptor) <------------  descriptor of /dev/fuse
//	                                             /proc /sys /dev, volumes, files, pivot_root, masks
//	                                             starts the main process from a thread that dropped what it may not have
//	Start returns                 <------------  started (pid, terminal)
//
// Everything that init is asked for later (another process, a signal, a window size) goes over the control socket, so
// nothing in this package ever needs setns(2), which a multi-threaded Go program cannot use for user and mount namespaces.
//
// # How a sandbox ends
//
//	supervisor                                   init
//	Main().Wait returns           <------------  exit (status) of the main process
//	                                             kills the other processes and waits for them
//	waits for the servers         <------------  empty
//	                              ------------>  end: exits, and the kernel takes the mounts away
//	Wait returns
//
// # What protects the host from the sandbox
//
// Init holds no descriptor of the host besides the control socket, a pipe for its last words and, with one id, the memory
// in which it tells the supervisor of credentials, once the sandbox runs. It is not dumpable, so that
// /proc/1/{exe,fd,root,mem} are closed to the processes in the sandbox, and where those get CAP_SYS_PTRACE or
// CAP_SYS_ADMIN it runs from a sealed copy of the executable; no later process gets these otherwise. Mount targets are
// resolved inside the root by openat2(2), so that a symbolic link in an image cannot lead a mount elsewhere. Processes have
// exactly the descriptors 0, 1 and 2.
//
// The supervisor treats what comes over the control socket as data from an untrusted peer.
//
// # Locks
//
//	Sandbox.mu      processes by number, whether the socket is closed
//	conn.wmu        one frame at a time onto the control socket; never held with Sandbox.mu
package sandbox
