// Package ops decides. An operation is one thing that a person asked for: it is requested, checked,
// started as one GitLab pipeline, followed to its end and explained. Its states and their edges
// stand in state.go; every rule about them is in the pure function transition; Service makes the
// outward calls that a state asks for and records what came of them.
//
// Rows are the truth: what Service does next follows from the row alone, so it may be killed at any
// instant and asked again any number of times. Before a request that creates something leaves, the
// row says so and holds the key that the pipeline will carry. When its answer is lost, the pipeline
// is looked for by that key, and the request is sent again only when it can no longer be on its way.
//
// The package knows no SQL, HTTP, YAML or chat; it imports the standard library only.
package ops
