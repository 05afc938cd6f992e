//go:build !ocim_crash

// Package crash names the instants at which a kill must do no harm: before and after every commit
// and every outward call. In ordinary builds a point costs nothing. With the build tag ocim_crash,
// the environment variable OCIM_CRASH_AT=name or name:n kills the process with SIGKILL at the n-th
// passage of that point.
package crash

// Point marks an instant. It does nothing in this build.
func Point(string) {}
