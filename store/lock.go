package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked: another process has the store open.
var ErrLocked = errors.New("another process is using this store")

// lockFile takes an exclusive lock that ends with the process, however it ends. The lock stands
// beside the database: SQLite's own locks belong to transactions, not to a running bot.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
