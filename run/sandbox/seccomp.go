package sandbox

// SeccompMode selects the system call filter.
type SeccompMode int

const (
	SeccompDefault    SeccompMode = iota // equal in effect to Docker's default profile
	SeccompUnconfined                    // none
	SeccompFile                          // Profile, a profile in Docker's JSON format
)

// Seccomp is the system call filter of the processes in the sandbox.
type Seccomp struct {
	Mode    SeccompMode
	Profile []byte
}
