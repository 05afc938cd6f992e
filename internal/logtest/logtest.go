// Package logtest holds what a test's log was written to.
package logtest

import (
	"strings"
	"sync"
)

// Buffer keeps what is written to it. Safe for concurrent use; its zero value is ready.
type Buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write implements [io.Writer]. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Reset forgets what was written.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}
