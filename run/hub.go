package run

import (
	"sync"

	"mica/run/control"
)

// hub hands the output of the main process to the log and to every attached
// client, and the input of clients to the process.
type hub struct {
	log *logWriter

	mu      sync.Mutex // guards clients and stdin
	clients map[*client]struct{}
	stdin   *inputPipe // of the process that runs now; nil: none
}

// client is one attached connection.
type client struct {
	conn           *control.Conn
	stdout, stderr bool
}

func newHub(logPath string) *hub {
	return &hub{log: newLogWriter(logPath), clients: make(map[*client]struct{})}
}

// output passes on what the process wrote. A client that cannot take it is
// dropped; one that is slow slows the process down, so nothing is lost.
func (h *hub) output(kind control.Kind, p []byte) {
	stream := "stdout"
	if kind == control.KindStderr {
		stream = "stderr"
	}
	h.log.write(stream, p)
	h.mu.Lock()
	targets := make([]*client, 0, len(h.clients))
	for c := range h.clients {
		if kind == control.KindStdout && c.stdout || kind == control.KindStderr && c.stderr {
			targets = append(targets, c)
		}
	}
	h.mu.Unlock()
	for _, c := range targets {
		if c.conn.Send(kind, p) != nil {
			h.detach(c)
		}
	}
}

func (h *hub) attach(c *client) {
	h.mu.Lock()
	h.clients[c] = struct{}{}
	h.mu.Unlock()
}

func (h *hub) detach(c *client) {
	h.mu.Lock()
	delete(h.clients, c)
	h.mu.Unlock()
}

// setInput names where input goes from now on; nil: nowhere.
func (h *hub) setInput(p *inputPipe) {
	h.mu.Lock()
	h.stdin = p
	h.mu.Unlock()
}

func (h *hub) input() *inputPipe {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stdin
}

// finish tells all clients how it ended and lets them go.
func (h *hub) finish(code int) {
	h.mu.Lock()
	clients := h.clients
	h.clients = make(map[*client]struct{})
	h.mu.Unlock()
	for c := range clients {
		_ = c.conn.SendJSON(control.KindExit, control.Exit{Code: code})
	}
}
