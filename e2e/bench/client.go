package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// answerWithin is how long a request may take before it counts as failed.
const answerWithin = 15 * time.Second

// client sends whole requests over one connection and reads their answers. It does what a load
// generator needs of HTTP/1.1 and no more: net/http's client would cost more than the server that
// is measured. Not safe for concurrent use.
type client struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
	body []byte
	used time.Time // when the connection was made or last used
}

// staleAfter is how long a connection is kept without use. Servers close those that are idle, and a
// request that meets that would count as failed.
const staleAfter = 2 * time.Second

func newClient(addr string) *client { return &client{addr: addr} }

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) dial() error {
	if c.conn != nil && time.Since(c.used) > staleAfter {
		c.close()
	}
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", c.addr, answerWithin)
	if err != nil {
		return err
	}
	c.conn, c.used = conn, time.Now()
	if c.in == nil {
		c.in = bufio.NewReaderSize(conn, 8<<10)
	} else {
		c.in.Reset(conn)
	}
	return nil
}

// do sends a request and returns the answer. The body is good until the next call. A connection
// that fails is closed, and the next call makes a new one.
func (c *client) do(request []byte) (status int, body []byte, err error) {
	if err := c.dial(); err != nil {
		return 0, nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.used = time.Now()
	if err := c.conn.SetDeadline(c.used.Add(answerWithin)); err != nil {
		return 0, nil, err
	}
	// A server that refuses a request early may close before it has read all: its answer counts,
	// not the failed write.
	_, sent := c.conn.Write(request)
	status, closes, err := c.read()
	if err != nil {
		return 0, nil, errors.Join(err, sent)
	}
	if closes || sent != nil {
		c.close()
	}
	return status, c.body, nil
}

// read reads one answer into c.body and tells whether the server closes the connection after it.
func (c *client) read() (status int, closes bool, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, false, fmt.Errorf("answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, fmt.Errorf("answer begins with %q", line)
	}
	length, chunked := 0, false
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("Connection")):
			closes = bytes.EqualFold(value, []byte("close"))
		}
	}
	c.body = c.body[:0]
	if !chunked {
		return status, closes, c.readN(length)
	}
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, false, err
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return 0, false, err
		}
		if err := c.readN(int(n)); err != nil {
			return 0, false, err
		}
		if _, err := c.in.ReadSlice('\n'); err != nil {
			return 0, false, err
		}
		if n == 0 {
			return status, closes, nil
		}
	}
}

// readN adds n bytes to c.body.
func (c *client) readN(n int) error {
	at := len(c.body)
	c.body = slices.Grow(c.body, n)[:at+n]
	for got := at; got < at+n; {
		m, err := c.in.Read(c.body[got : at+n])
		if err != nil {
			return err
		}
		got += m
	}
	return nil
}
