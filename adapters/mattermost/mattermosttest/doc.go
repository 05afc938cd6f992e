// Package mattermosttest is a Mattermost server for tests, and the proof that
// it is one.
//
// [New] starts a fake server that speaks the part of REST API v4 that a bot
// and its users need: posts, slash commands, message buttons, dialogs, files
// and the WebSocket. It keeps a ledger of every call and of every version of
// every post, and it can be told to fail ([Server.Fail]): refuse, delay, lose
// the answer after the work is done, hang, or answer without end.
//
// [Peer] is a set-up server as its users see it, be it the fake or a real
// one: somebody types a command, clicks, fills in a dialog, and reads what
// came back. Peer uses nothing but the public API, so the same test runs
// against both.
//
// [RunContract] is what the two have in common. It runs against the fake in
// this package's tests and against a real Mattermost 11.1 under the build tag
// e2e. Where they differ, the fake is wrong.
//
// [LiveMentions] and [Read] tell what a post does to its readers: whom it
// notifies, which links it makes, and the words on the screen.
package mattermosttest
