// Package migrations holds the steps that build and change the store's schema. A step that has
// been released is never edited; the next change is the next file.
package migrations

import "embed"

// FS holds the steps as goose reads them.
//
//go:embed *.sql
var FS embed.FS
