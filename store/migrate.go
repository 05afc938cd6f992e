package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"ocim/internal/crash"
)

// ErrNewer: the file was written by a newer ocim.
var ErrNewer = errors.New("the store was written by a newer version of ocim")

// migrate brings the schema to the newest step of fsys. Each step and the note that it is done
// are one transaction, so that a kill at any instant leaves a schema that the next start takes on.
func migrate(ctx context.Context, db *sql.DB, fsys fs.FS) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, db, fsys, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > want {
		return fmt.Errorf("%w: its schema is version %d, this one knows %d", ErrNewer, have, want)
	}
	for ; have < want; have++ {
		crash.Point("store.migrate.before")
		if _, err := p.UpByOne(ctx); err != nil {
			if errors.Is(err, goose.ErrNoNextVersion) {
				return nil
			}
			return fmt.Errorf("migrate the store: %w", err)
		}
		crash.Point("store.migrate.after")
	}
	return nil
}
