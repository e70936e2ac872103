package supervise

import (
	"encoding/json"
	"sync"

	"mica/run/control"
	"mica/run/logs"
	"mica/run/record"
)

// hub hands the output of the main process to the log and to every attached
// client, and the input of clients to the process.
type hub struct {
	log *logs.Writer

	mu      sync.Mutex // guards all below
	clients map[*client]struct{}
	stdin   *inputPipe // of the process that runs now; nil: none
	drained bool       // the process has ended: nothing waits for clients any more
}

func newHub(c *record.Container) *hub {
	return &hub{log: logs.NewWriter(c.LogPath(), c.Config.Host.Log), clients: make(map[*client]struct{})}
}

// output passes on what the process wrote. A client that is slow slows the
// process down while it runs, so that nothing is lost and memory stays bounded.
func (h *hub) output(kind control.Kind, p []byte) {
	stream := "stdout"
	if kind == control.KindStderr {
		stream = "stderr"
	}
	h.log.Add(stream, p)
	h.mu.Lock()
	targets := make([]*client, 0, len(h.clients))
	for c := range h.clients {
		if kind == control.KindStdout && c.stdout || kind == control.KindStderr && c.stderr {
			targets = append(targets, c)
		}
	}
	h.mu.Unlock()
	for _, c := range targets {
		c.put(kind, p)
	}
}

func (h *hub) attach(c *client) {
	h.mu.Lock()
	h.clients[c] = struct{}{}
	c.setPatient(!h.drained)
	h.mu.Unlock()
}

func (h *hub) detach(c *client) {
	h.mu.Lock()
	delete(h.clients, c)
	h.mu.Unlock()
	c.drop()
}

// drain says whether the process has ended: what is left of its output is
// little, and no longer held up by clients that do not read.
func (h *hub) drain(ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained = ended
	for c := range h.clients {
		c.setPatient(!ended)
	}
}

// setInput names where input goes from now on, what is under way already with it; nil: nowhere.
func (h *hub) setInput(p *inputPipe) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p != nil && h.stdin != nil {
		p.takeOver(h.stdin)
	}
	h.stdin = p
}

func (h *hub) input() *inputPipe {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stdin
}

// finish tells all clients how it ended, and waits until they have read
// everything or gone away.
func (h *hub) finish(code int) {
	h.mu.Lock()
	clients := h.clients
	h.clients = make(map[*client]struct{})
	h.mu.Unlock()
	payload, err := json.Marshal(control.Exit{Code: code})
	for c := range clients {
		if err == nil {
			c.put(control.KindExit, payload)
		}
		c.end()
	}
	for c := range clients {
		<-c.done
	}
}

// client is one attached connection with what is on its way to it.
type client struct {
	conn           *control.Conn
	stdout, stderr bool
	done           chan struct{} // closed when all is sent or the client is gone

	mu      sync.Mutex // guards all below
	change  sync.Cond
	queue   []message
	size    int  // bytes in queue
	patient bool // put waits for room
	ended   bool // nothing more comes
	gone    bool
}

type message struct {
	kind control.Kind
	data []byte
}

// clientWindow is how many bytes may be on their way to a client before the
// process has to wait for it.
const clientWindow = 1 << 20

func newClient(conn *control.Conn, a *control.Attach) *client {
	c := &client{conn: conn, stdout: a.Stdout, stderr: a.Stderr, done: make(chan struct{}), patient: true}
	c.change.L = &c.mu
	go c.send()
	return c
}

// put queues a message, when there is room.
func (c *client) put(kind control.Kind, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.size >= clientWindow && c.patient && !c.gone {
		c.change.Wait()
	}
	if c.gone {
		return
	}
	c.queue = append(c.queue, message{kind, append([]byte(nil), p...)})
	c.size += len(p)
	c.change.Broadcast()
}

func (c *client) setPatient(on bool) {
	c.mu.Lock()
	c.patient = on
	c.mu.Unlock()
	c.change.Broadcast()
}

// end says that nothing more comes.
func (c *client) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.change.Broadcast()
}

// drop forgets what is queued: the client is gone.
func (c *client) drop() {
	c.mu.Lock()
	c.gone, c.queue = true, nil
	c.mu.Unlock()
	c.change.Broadcast()
}

// send sends the queue until its end.
func (c *client) send() {
	defer close(c.done)
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.ended && !c.gone {
			c.change.Wait()
		}
		if c.gone || len(c.queue) == 0 {
			c.mu.Unlock()
			return
		}
		m := c.queue[0]
		c.queue = c.queue[1:]
		c.size -= len(m.data)
		c.mu.Unlock()
		c.change.Broadcast()
		if c.conn.Send(m.kind, m.data) != nil {
			c.drop()
			return
		}
	}
}
