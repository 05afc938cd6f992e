// Package gitlabtest is a GitLab that runs inside a process. It is a real HTTP server that speaks the
// part of GitLab's REST API and of its webhooks that ocim depends on, with pipelines that advance by
// a script as time passes.
//
// It has two uses. Tests talk to it instead of to a GitLab server: they make it fail in any of the
// ways a real one fails ([Server.Inject]), and read afterwards from its ledger exactly what reached
// it ([Server.Ledger]). The sandbox runs it so that the bot can be tried with nothing installed.
//
// The simulation has no goroutine of its own. Every request and every call first brings the
// simulated world up to the clock's present instant, so that a test with a fake clock moves
// pipelines by moving the clock. [Server.Run] adds a loop that does the same as time passes and
// delivers webhooks; [Server.Deliver] delivers them at a moment the caller chooses.
//
// Where GitLab's behaviour is imitated, the comment names the file of GitLab's source that
// settles it. Behaviour that could not be settled is kept out or marked as a guess.
package gitlabtest
