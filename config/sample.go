package config

import _ "embed"

//go:generate go test -run ^TestSample$ -update .

//go:embed sample.yaml
var sample string

// Sample is a complete ocim.yaml with a comment on each key, to begin from. It loads without a
// problem once the environment holds the secrets that it names.
func Sample() string { return sample }
