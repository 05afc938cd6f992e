// Package config reads what an operator writes, ocim.yaml, and hands the rest of the program a
// [Config] that is complete and checked.
//
// There are two steps. [File] is what may be written: references to secrets, durations, defaults
// in struct tags, and comments that become sample.yaml. Config is what holds: defaults filled in,
// references between blocks resolved, secrets read. Nothing outside this package sees a File.
//
// [Load] finds every mistake in one run and says where it stands:
//
//	ocim.yaml:41: projects[2].trigger_token: environment variable GL_TOKEN_EU is not set
//
// Secrets are written as env:NAME or file:/path, never as text, and never appear in an error or in
// what [Config.Print] shows. Any scalar can be overridden by a variable named after its path:
// OCIM_LISTEN_PUBLIC, OCIM_CLUSTERS_0_NAME. A variable with the prefix OCIM_ that names no path is
// a mistake as well, unless the file refers to it as env:NAME or its name begins with OCIM_CRASH_,
// which belongs to builds for crash tests.
package config
