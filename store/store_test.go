package store_test

import (
	"testing"

	"ocim/ops"
	"ocim/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, dir string) ops.Store {
		t.Helper()
		return storetest.OpenIn(t, dir, nil)
	})
}
