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

// unlockFile gives the lock up. Closing the file is not enough: a process that is just being
// started shares all open files with this one until it runs its own program, and would keep the
// lock for that moment.
func unlockFile(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}
