// Package slacktest is a Slack for tests: a server that speaks the Web API, signs and sends
// requests to a bot, runs Socket Mode, and acts as the people of a workspace. It is strict where
// Slack is strict, because a bot that works against a lenient fake fails in front of users.
//
// A test starts a [Server], points the bot's API base at [Server.APIURL] and the server at the
// bot with [Server.SetBotURL] (or lets the bot connect over Socket Mode), then behaves like a
// person: [Server.Command], [Server.Click], [Server.SubmitView]. What the person would see is read
// back from [Server.Messages], [Server.Ephemerals] and [Server.View]; what went over the wire is in
// [Server.Calls] and [Server.Deliveries].
//
// Trouble is switched on while the server runs: [Server.Fail] adds rate limits, server errors,
// lost answers and hangs; [Server.Socket] gives hold of the Socket Mode connections.
//
// # Sources
//
// Behaviour follows docs.slack.dev (method pages, messaging, Block Kit, Socket Mode, Events API),
// the comments in @slack/types 3.2.0 and the issues named beside the constants. Slack's own Bolt
// for JavaScript judges requests and envelopes in e2e/bolt. Three things Slack does not promise are
// marked "observed" where they are used: the limit of all block text in one message, the wording of
// validation messages, and the errors a person sees when a command fails other than by time-out.
//
// # Limits
//
// The server listens on a loopback address only, reads at most 4 MiB of any request and keeps all
// it has seen in memory until it is closed. All methods are safe for concurrent use.
package slacktest
