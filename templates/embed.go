// Package templates holds the text of every message that ocim posts or answers. An operator
// replaces one by a file of the same name in the folder that ocim.yaml names under templates.
// docs/messages.md describes the markup and the fields.
package templates

import "embed"

// FS holds one NAME.tmpl for each message, and fields.txt, which says what each of them sees.
//
//go:embed *.tmpl fields.txt
var FS embed.FS
