package slacktest

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
)

// frameWatcher hands out a hijacked connection that notes which WebSocket messages came in more
// than one frame. Slack drops those, and a WebSocket library hides it.
type frameWatcher struct {
	http.ResponseWriter
	frames **frameConn
}

// Hijack implements [http.Hijacker].
func (w *frameWatcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	*w.frames = &frameConn{Conn: conn}
	return *w.frames, rw, nil
}

// frameConn follows the frame headers in what is read (RFC 6455, section 5.2).
type frameConn struct {
	net.Conn

	mu         sync.Mutex
	header     []byte // of the frame being read, as far as it came
	skip       uint64 // bytes of payload still to come
	fragmented bool   // the current message has a frame without FIN
	messages   []bool // one entry for each whole message: was it fragmented?
}

// Read implements [net.Conn].
func (c *frameConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow(p[:n])
	return n, err
}

// next tells of the oldest message not asked about whether it was fragmented.
func (c *frameConn) next() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.messages) == 0 {
		return false
	}
	first := c.messages[0]
	c.messages = c.messages[1:]
	return first
}

func (c *frameConn) follow(b []byte) {
	for len(b) > 0 {
		if c.skip > 0 {
			n := min(c.skip, uint64(len(b)))
			c.skip -= n
			b = b[n:]
			continue
		}
		c.header = append(c.header, b[0])
		b = b[1:]
		if length, whole := payloadLength(c.header); whole {
			c.skip = length
			c.frame(c.header[0])
			c.header = c.header[:0]
		}
	}
}

// frame notes a frame by the first byte of its header. Control frames, with the high bit of the
// opcode set, may stand between fragments.
func (c *frameConn) frame(first byte) {
	fin, control := first&0x80 != 0, first&0x08 != 0
	switch {
	case control:
	case !fin:
		c.fragmented = true
	default:
		c.messages = append(c.messages, c.fragmented)
		c.fragmented = false
	}
}

// payloadLength reads a header; whole is false while bytes are missing.
func payloadLength(h []byte) (length uint64, whole bool) {
	if len(h) < 2 {
		return 0, false
	}
	size := 2
	switch h[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	extended := size
	if h[1]&0x80 != 0 {
		size += 4 // mask
	}
	if len(h) < size {
		return 0, false
	}
	switch extended {
	case 4:
		return uint64(binary.BigEndian.Uint16(h[2:])), true
	case 10:
		return binary.BigEndian.Uint64(h[2:]), true
	}
	return uint64(h[1] & 0x7f), true
}
