package templates_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/chat"
	"ocim/adapters/mattermost"
	"ocim/adapters/mattermost/mattermosttest"
	"ocim/adapters/slack"
	"ocim/adapters/slack/slacktest"
	"ocim/adapters/terminal"
	"ocim/commands"
	"ocim/internal/clock"
	"ocim/internal/secret"
	"ocim/notifier"
	"ocim/ops"
	"ocim/templates"
)

var update = flag.Bool("update", false, "write the golden files anew")

func now() time.Time { return time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC) }

const gitlab = "https://gitlab.example.org/grove/eu/-/"

// operation is a deploy as it stands after some minutes.
func operation(s ops.State) ops.Operation {
	ann := ops.Actor{Platform: "slack", Workspace: "T0OCIM001", UserID: "U0ANN0001"}
	began := now().Add(-12 * time.Minute)
	op := ops.Operation{
		ID: "k3f9qz", State: s, Run: 1, RunBy: ann, RunByName: "Ann Example", CreatedAt: began, RunAt: began, ChangedAt: now(), Expected: 15 * time.Minute,
		Request: ops.Request{
			Actor: ann, ActorName: "Ann Example", From: ops.Conversation{Platform: ann.Platform, Workspace: ann.Workspace, Channel: "C0OPS0001"}, Action: "deploy", Target: ops.Target{Cluster: "eu", Instance: "demo"},
			Params: map[string]string{"version": "21.0.1", "force": "true"}, Why: "new theme",
		},
	}
	switch s {
	case ops.Requested, ops.Queued, ops.Starting, ops.AwaitingApproval:
		return op
	case ops.Refused:
		return unstarted(op, ops.ReasonUnknownInstance, `There is no instance "demo". Did you mean demo-2?`)
	case ops.Rejected, ops.Stale: // nothing ends so yet
		return unstarted(op, "", "")
	case ops.Expired:
		op.CreatedAt, op.RunAt = op.CreatedAt.Add(-49*time.Minute), op.RunAt.Add(-49*time.Minute)
		return unstarted(op, ops.ReasonNotStartedInTime, "It could not be started in time. Last answer: GitLab answered 503 when ocim tried to read the time of project grove.")
	default:
	}
	op.StartedAt = began.Add(20 * time.Second)
	if s.Final() {
		op.FinishedAt = now()
	}
	status := map[ops.State]string{
		ops.Succeeded: "success", ops.Failed: "failed", ops.Canceled: "canceled", ops.Canceling: "canceling", ops.Blocked: "manual",
	}[s]
	if status == "" {
		status = "running"
	}
	op.Pipelines = []ops.Pipeline{
		{Ref: ops.PipelineRef{Project: "grove", ID: 9001}, Role: ops.RoleRoot, Status: "success", URL: gitlab + "pipelines/9001", Jobs: ops.Jobs{Done: 2, Total: 2}},
		{
			Ref: ops.PipelineRef{Project: "grove", ID: 9002}, Role: ops.RoleChild, Parent: 9001, Status: status, URL: gitlab + "pipelines/9002",
			Jobs: ops.Jobs{Done: 5, Total: 11, Running: "build-openedx", Stage: "build"},
		},
	}
	switch s {
	case ops.Failed:
		op.Reason = ops.ReasonJobFailed
		op.Failure = &ops.Failure{
			Job: "init-mysql", Stage: "deploy", Reason: "script_failure", URL: gitlab + "jobs/77", Last: "ERROR 1205: Lock wait timeout exceeded",
			Tail: "running migrations\n  applying 0042_courses\nERROR 1205: Lock wait timeout exceeded",
		}
	case ops.Blocked:
		op.Reason, op.Pipelines[1].Jobs.Manual, op.Pipelines[1].Jobs.Running = ops.ReasonWaitsForPerson, "approve-production", ""
	case ops.Canceled:
		op.Reason = ops.ReasonCanceledByPerson
		op.CancelBy = ops.Actor{Platform: "slack", Workspace: "T0OCIM001", UserID: "U0BEN0001"}
	default:
	}
	return op
}

// unstarted is op as it ends without a pipeline.
func unstarted(op ops.Operation, reason ops.Reason, detail string) ops.Operation {
	op.Pipelines, op.Failure, op.StartedAt, op.FinishedAt, op.Reason, op.Detail = nil, nil, time.Time{}, now(), reason, detail
	return op
}

// ends are further ways in which an operation ends, with the words that ops has for them.
func ends() map[string]ops.Operation {
	with := func(op ops.Operation, reason ops.Reason, detail string) ops.Operation {
		op.Reason, op.Detail, op.Failure = reason, detail, nil
		return op
	}
	alone := func(op ops.Operation, status string) ops.Operation { // with its first pipeline only
		op.Pipelines = slices.Clone(op.Pipelines[:1])
		op.Pipelines[0].Status = status
		return op
	}
	failed, canceled, succeeded := operation(ops.Failed), operation(ops.Canceled), operation(ops.Succeeded)
	elsewhere := with(canceled, ops.ReasonCanceledInGitLab, "It was canceled in GitLab, not from here.")
	elsewhere.CancelBy = ops.Actor{}
	open := with(alone(failed, "success"), ops.ReasonMergeRequestOpen, "The pipeline ended, but its merge request is still open: the change is not deployed.")
	open.Link = gitlab + "merge_requests/5"
	return map[string]ops.Operation{
		"gitlab_refused": unstarted(failed, ops.ReasonGitLabRefused, "GitLab refused to start the pipeline: Reference not found. Check the branch or tag that the configuration names."),
		"gitlab_denied":  unstarted(failed, ops.ReasonGitLabDenied, "GitLab does not let ocim start a pipeline in project grove (404)."),
		"config_error":   unstarted(failed, ops.ReasonConfigError, "GitLab could not make a pipeline from the project's .gitlab-ci.yml: jobs:deploy config contains unknown keys: steps"),
		"outcome_unknown": unstarted(failed, ops.ReasonOutcomeUnknown,
			"GitLab may have started a pipeline, and its answer was lost. The second try had no answer either, and GitLab shows no pipeline. Look in GitLab before you try again."),
		"not_in_time":           unstarted(failed, ops.ReasonNotStartedInTime, "It could not be started in time. Last answer: GitLab limits how many pipelines are created per minute."),
		"not_allowed":           unstarted(operation(ops.Refused), ops.ReasonNotAllowed, "Ann Example may not start operations here any more."),
		"canceled_before_start": unstarted(canceled, ops.ReasonCanceledByPerson, ""),
		"canceled_in_gitlab":    elsewhere,
		"abandoned":             with(alone(failed, "running"), ops.ReasonOutcomeUnknown, "GitLab could not be asked all day, so the operation is not followed any more. It may still run: look in GitLab."),
		"pipeline_failed":       with(alone(failed, "failed"), ops.ReasonPipelineFailed, "The pipeline failed, and GitLab names no job that did."),
		"pipeline_skipped":      with(alone(failed, "skipped"), ops.ReasonPipelineSkipped, "GitLab skipped the pipeline: nothing ran."),
		"pipeline_deleted":      with(alone(failed, "running"), ops.ReasonPipelineDeleted, "The pipeline was deleted in GitLab."),
		"no_follow_up":          with(alone(succeeded, "success"), ops.ReasonNoFollowUp, "The pipeline succeeded; no follow-up pipeline appeared within 1m0s."),
		"merge_request_open":    open,
	}
}

// extreme is an operation whose every text is as bad as it gets.
func extreme() ops.Operation {
	op := operation(ops.Failed)
	hostile := "<!channel> @here *b* _i_ `c` [x](https://evil.example) | # > ~ \\ \u202eevil \x1b[31m\nnext\tline "
	op.Request.ActorName, op.RunByName = strings.Repeat("Zoë ", 40), strings.Repeat("שלום ", 40)
	op.Request.Target = ops.Target{Cluster: "e*u", Instance: strings.Repeat("instance-", 30)}
	op.Request.Why, op.Detail = strings.Repeat(hostile, 5), strings.Repeat(hostile, 50)
	op.Request.Params = map[string]string{"a|b": hostile, "": "", "long": strings.Repeat("x", 5000)}
	op.Failure.Job, op.Failure.Stage, op.Failure.Reason, op.Failure.Last = hostile, "", hostile, strings.Repeat(hostile, 20)
	op.Failure.URL, op.Failure.Tail = "javascript:alert(1)", strings.Repeat("```\n"+hostile+"\n", 400)+"the end"
	op.Link, op.Run = "https://evil.example/a b", 12
	for i := range 20 {
		op.Pipelines = append(op.Pipelines, ops.Pipeline{Ref: ops.PipelineRef{ID: int64(i)}, Status: hostile, URL: hostile, Jobs: ops.Jobs{Done: 1, Total: 1}})
	}
	return op
}

func views() map[string]map[string]any {
	view := func(op ops.Operation) notifier.View { return notifier.NewView(op, now()) }
	end, cards, logs := map[string]any{}, map[string]any{}, map[string]any{}
	for _, s := range ops.States() {
		cards[string(s)] = view(operation(s))
		if s.Final() {
			end[string(s)] = view(operation(s))
		}
	}
	retried := operation(ops.Running)
	retried.Run, retried.RunByName, retried.Request.Params, retried.Request.Why, retried.Expected = 3, "Ben Example", nil, "", 0
	for name, op := range ends() {
		cards[name], end[name] = view(op), view(op)
	}
	twice := operation(ops.Running)
	twice.Pipelines = append(twice.Pipelines, ops.Pipeline{Ref: ops.PipelineRef{ID: 9003}, Role: ops.RoleExtra, Status: "canceling", URL: gitlab + "pipelines/9003"})
	cards["second_pipeline"] = view(twice)
	waiting := operation(ops.Queued)
	waiting.Reason, waiting.Detail = ops.ReasonGitLabUnavailable, "GitLab does not answer (503)."
	cards["retried"], cards["gitlab_down"], cards["extreme"] = view(retried), view(waiting), view(extreme())
	end["extreme"] = view(extreme())
	mute := operation(ops.Failed)
	mute.Failure.Tail, mute.Failure.NoTail, mute.Failure.URL = "", "The log is not retrievable: GitLab answered 403.", ""
	logs["failed"], logs["no_log"], logs["extreme"] = view(operation(ops.Failed)), view(mute), view(extreme())
	return map[string]map[string]any{"card": cards, "end": end, "log": logs}
}

func answers() map[string]map[string]any {
	running := commands.OperationView{
		ID: "k3f9qz", Action: "deploy", Instance: "demo", Cluster: "eu", State: "running", ActorName: "Ann Example", URL: gitlab + "pipelines/9001", Run: 1,
		Elapsed: 12 * time.Minute, Since: 12 * time.Minute,
		Pipelines: []commands.PipelineLine{
			{ID: 9001, Status: "success", URL: gitlab + "pipelines/9001", Source: "trigger", Done: 2, Total: 2},
			{ID: 9002, Status: "running", URL: gitlab + "pipelines/9002", Source: "parent_pipeline", Running: "build-openedx", Done: 5, Total: 11},
		},
	}
	failed := running
	failed.ID, failed.Instance, failed.State, failed.Reason, failed.Detail, failed.Final, failed.Run, failed.Pipelines = "p2m4tc", "shop", "failed", "job_failed", "init-mysql failed.", true, 2, nil
	waiting := running
	waiting.State, waiting.Pipelines = "queued", nil
	accepted := func(done, state, link chat.Foreign) commands.Accepted {
		return commands.Accepted{ID: "k3f9qz", Action: "deploy", Instance: "demo", Cluster: "eu", State: state, Trigger: "/ocim", Done: done, Link: link, Run: 2}
	}
	help := commands.HelpView{
		Trigger: "/ocim", Name: "deploy", Summary: "Update and redeploy an instance.", Usage: "/ocim deploy <instance> [key=value …] [--plan]", Needs: "start", Who: "those who may start; you are", Mutates: true,
		Params: []commands.HelpParam{{Name: "instance", Help: "its name, or cluster/name"}, {Name: "why", Help: "shown on the card"}}, Examples: []chat.Foreign{"/ocim deploy demo", "/ocim deploy eu/demo version=21.0.1 --plan"},
	}
	return map[string]map[string]any{
		"accepted": {
			"deploy": accepted("", "requested", ""), "retry": accepted("retry", "requested", "https://chat.example/c/1"),
			"cancel": accepted("cancel", "canceling", ""), "cancel_before_start": accepted("cancel", "canceled", "https://chat.example/c/1"),
		},
		"error": {
			"plain":   commands.Refusal{Msg: "You may not start operations.", Reason: "not_allowed", Next: "Ask the operator of this bot."},
			"suggest": commands.Refusal{Msg: `There is no instance "dmo".`, Reason: "unknown_instance", Suggest: []chat.Foreign{"demo", "eu/demo-2"}, Next: "See /ocim operations."},
			"pattern": commands.Refusal{Msg: "version cannot have that value. A version of Tutor, such as 21.0.1.", Pattern: `[0-9]+(\.[0-9]+)*`, Reason: "invalid_parameter", Next: "See /ocim help deploy."},
			"busy":    commands.Refusal{Msg: "eu/demo is busy: deploy k3f9qz is running.", Reason: "instance_busy", Operation: "k3f9qz", Link: "https://chat.example/c/1", Next: "Wait for it to end, or cancel it."},
			"chat":    commands.Refusal{Msg: "Chat does not say whether you belong to this channel; nothing was done.", Reason: "chat_unavailable", Next: "Try again in a moment."},
		},
		"help":         {"all": commands.HelpList{Trigger: "/ocim", Commands: []commands.HelpView{{Usage: "/ocim help [command]", Summary: "What the bot can do."}, help}}},
		"help_command": {"deploy": help, "whoami": commands.HelpView{Trigger: "/ocim", Name: "whoami", Summary: "Who you are to the bot.", Usage: "/ocim whoami", Who: "everybody"}},
		"logs": {
			"tail":   commands.LogView{ID: "k3f9qz", Job: "init-mysql", Stage: "deploy", Status: "failed", URL: gitlab + "jobs/77", Tail: "one\n\ttwo\n<three>", Others: []chat.Foreign{"build", "test-1"}},
			"no_log": commands.LogView{ID: "k3f9qz", Job: "init-mysql", Status: "created", NoTail: "The job has not begun."},
		},
		"operations": {
			"some": commands.OperationList{Title: "Unfinished operations", Operations: []commands.OperationView{running, failed}},
			"none": commands.OperationList{Title: "Unfinished operations", Empty: "Nothing is under way."},
		},
		"plan": {
			"grove": commands.PlanView{Action: "deploy", Instance: "demo", Cluster: "eu", Project: "grove/eu", GitRef: "main", Start: "POST /projects/grove%2Feu/trigger/pipeline", Body: "variables[INSTANCE_NAME]: demo\nvariables[NEW]: 1", Follow: true},
			"busy":  commands.PlanView{Action: "deploy", Instance: "demo", Cluster: "eu", Project: "grove/eu", GitRef: "main", Start: "POST /x", Body: "{}", Busy: "p2m4tc", Unverified: true},
		},
		"plan_cancel": {"running": running, "waiting": waiting, "ended": failed},
		"status": {
			"live":  commands.StatusView{OperationView: running, Live: true, Card: "https://chat.example/c/1"},
			"ended": commands.StatusView{OperationView: failed}, "waiting": commands.StatusView{OperationView: waiting},
			"hidden": commands.StatusView{OperationView: running, Cause: "GitLab does not show the pipeline", Card: "https://chat.example/c/1"},
			"stale":  commands.StatusView{OperationView: running, Cause: "GitLab could not be reached when ocim tried to read pipeline 9001", Age: 3 * time.Minute},
		},
		"status_cluster": {
			"busy":  commands.ClusterView{Name: "eu", Project: "grove/eu", Found: true, PipelineID: 9001, URL: gitlab + "pipelines/9001", Status: "success", Age: time.Hour, Took: 14 * time.Minute, Operations: []commands.OperationView{running, waiting}},
			"fresh": commands.ClusterView{Name: "eu", Project: "grove/eu"},
			"error": commands.ClusterView{Name: "eu", Project: "grove/eu", Error: "GitLab does not answer."},
		},
		"whoami": {
			"may":    commands.WhoamiView{Platform: "slack", Workspace: "T0OCIM001", UserID: "U0ANN0001", Name: "Ann Example", Trigger: "/ocim", May: []chat.Foreign{"start", "cancel"}},
			"nobody": commands.WhoamiView{Platform: "slack", Workspace: "T0OCIM001", UserID: "U0ANN0001"},
		},
	}
}

// TestMessagesLookAsTheyAlwaysDid renders every message on every platform. Read the difference, and
// then write it with -update.
func TestMessagesLookAsTheyAlwaysDid(t *testing.T) {
	t.Parallel()
	text, err := chat.LoadTemplates(templates.FS, "")
	if err != nil {
		t.Fatal(err)
	}
	p := newPlatforms(t)
	all := answers()
	maps.Copy(all, views())
	files, err := filepath.Glob("*.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if len(all[strings.TrimSuffix(f, ".tmpl")]) == 0 {
			t.Errorf("%s: no case shows it", f)
		}
	}
	want := map[string]bool{}
	for name, cases := range all {
		for c, data := range cases {
			m, err := text.Render(name, data)
			if err != nil {
				t.Errorf("%s, %s: %v", name, c, err)
				continue
			}
			file := filepath.Join("testdata", name, c+".txt")
			want[file] = true
			golden(t, file, p.show(t, m))
			checkMessage(t, name+" "+c, m)
		}
	}
	old, err := filepath.Glob("testdata/*/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range old {
		if !want[f] {
			t.Errorf("%s: no case writes it any more", f)
		}
	}
}

// checkMessage looks for what no message may have, however strange its data.
func checkMessage(t *testing.T, name string, m chat.Message) {
	t.Helper()
	if strings.TrimSpace(m.Summary) == "" || len(m.Blocks) == 0 {
		t.Errorf("%s: got %+v, want a summary and something to see", name, m)
	}
	for _, b := range m.Blocks {
		texts := []chat.Text{b.Text}
		for _, f := range b.Fields {
			texts = append(texts, f.Text)
			if strings.TrimSpace(f.Text.String()) == "" {
				t.Errorf("%s: the field %q is empty", name, f.Label)
			}
		}
		for _, s := range slices.Concat(texts...) {
			if strings.Contains(s.Text, "<no value>") || strings.Contains(s.Text, "%!") {
				t.Errorf("%s: got %q", name, s.Text)
			}
			if s.Style == chat.Link && !chat.SafeURL(s.URL) {
				t.Errorf("%s: got a link to %q", name, s.URL)
			}
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v; run with -update to write it", err)
		return
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// platforms shows messages on all of them.
type platforms struct {
	slackServer *slacktest.Server
	slack       *slack.Adapter
	fake        *mattermosttest.Server
	mattermost  *mattermost.Adapter
	channel     string
}

type deaf struct{}

func (deaf) Handle(context.Context, chat.Incoming) chat.Answer { return chat.Answer{} }

func newPlatforms(t *testing.T) *platforms {
	t.Helper()
	p := &platforms{fake: mattermosttest.New(t, mattermosttest.Options{})}
	var err error
	if p.slackServer, err = slacktest.New(slacktest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.slackServer.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	p.slack, err = slack.New(slack.Config{Transport: transport, Workspaces: []slack.Workspace{{
		TeamID: "T0OCIM001", SigningSecrets: []secret.Secret{secret.New(p.slackServer.SigningSecret())},
		BotToken: secret.New(p.slackServer.BotToken()), APIURL: p.slackServer.APIURL(),
	}}}, deaf{})
	if err != nil {
		t.Fatal(err)
	}
	peer := p.fake.Peer(t)
	p.channel = peer.Channels[mattermosttest.Channel]
	sign, err := ops.NewSigner(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	p.mattermost, err = mattermost.New(mattermost.Config{
		Servers: []mattermost.Server{{
			Name: "main", URL: p.fake.URL, BotToken: secret.New(peer.Accounts[mattermosttest.Bot].Token),
			Teams: []string{mattermosttest.Team}, PathSecret: secret.New("path-secret-0123456789abcdef"),
		}},
		CallbackURL: "http://bot.example", Signer: sign, Tokens: noTokens{}, Transport: transport, Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler),
	}, deaf{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// noTokens stores no command tokens: nobody types here.
type noTokens struct{}

func (noTokens) Get(context.Context, string) (secret.Secret, bool, error) {
	return secret.Secret{}, false, nil
}
func (noTokens) Put(context.Context, string, secret.Secret) error { return nil }

// show is a message as plain text and as what is sent to Slack and Mattermost.
func (p *platforms) show(t *testing.T, m chat.Message) string {
	t.Helper()
	var out strings.Builder
	term := terminal.New(terminal.Config{People: []terminal.Person{{Name: "ann"}}, Out: &out, Clock: clock.NewFake(now())})
	out.WriteString("-- summary --\n" + m.Summary + "\n-- plain --\n")
	if _, err := term.Post(t.Context(), term.Here(), m); err != nil {
		t.Fatal(err)
	}
	if _, err := p.slack.Post(t.Context(), ops.Conversation{Platform: slack.Platform, Workspace: "T0OCIM001", Channel: "C0OPS0001"}, m); err != nil {
		t.Errorf("slack: %v", err)
	}
	calls := p.slackServer.Calls("chat.postMessage")
	out.WriteString("-- slack --\n" + indent(t, []byte(calls[len(calls)-1].Args["blocks"])))
	if _, err := p.mattermost.Post(t.Context(), ops.Conversation{Platform: mattermost.Platform, Workspace: "main", Channel: p.channel}, m); err != nil {
		t.Errorf("mattermost: %v", err)
	}
	posts := p.fake.CallsTo(http.MethodPost, "/posts")
	var sent struct {
		Message string `json:"message"`
		Props   struct {
			Attachments []map[string]any `json:"attachments"`
		} `json:"props"`
	}
	if err := json.Unmarshal([]byte(posts[len(posts)-1].Body), &sent); err != nil {
		t.Fatal(err)
	}
	out.WriteString("-- mattermost --\n" + sent.Message + "\n")
	for _, a := range sent.Props.Attachments {
		for k, v := range a {
			if v == nil || v == "" || v == float64(0) {
				delete(a, k)
			}
		}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(indent(t, b))
	}
	return out.String()
}

func indent(t *testing.T, doc []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatalf("%v in %.200s", err, doc)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(io.Writer(&out))
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
