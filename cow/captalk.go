package cow

import "sync"

// capTalk follows what the kernel says about the capabilities of a file while
// it takes them away. A write to a file with capabilities sends GETXATTR twice
// (dentry_needs_remove_privs and notify_change ask for the size), REMOVEXATTR,
// and a SETATTR that changes nothing; a chown that changes nothing sends
// GETXATTR once, then the same. The write of a privileged process leaves set-id
// bits alone, the chown clears them, and this is all that tells one from the
// other. One file at a time is enough: few have both capabilities and set-id
// bits, and those of which is forgotten lose the bits.
type capTalk struct {
	mu    sync.Mutex
	node  *Node
	asked int
	gone  bool // removed after it was asked for as by a write
}

// ask notes that n's capabilities were asked for: their size alone, or, by
// somebody who reads them, all of them.
func (c *capTalk) ask(n *Node, size bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != n || c.gone || !size {
		c.node, c.asked, c.gone = n, 0, false
	}
	if size {
		c.asked++
	}
}

// remove notes that n's capabilities were removed.
func (c *capTalk) remove(n *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = c.node == n && c.asked > 1
}

// end ends the talk about n with a SETATTR or a new value, and tells whether
// it was that of a write.
func (c *capTalk) end(n *Node) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != n {
		return false
	}
	gone := c.gone
	c.node, c.asked, c.gone = nil, 0, false
	return gone
}
