package ops

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func root(status string) Pipeline {
	return Pipeline{Ref: PipelineRef{"grove", 1}, Role: RoleRoot, Status: status, UpdatedAt: noon, FinishedAt: noon}
}

func child(id int64, status string, allowed bool) Pipeline {
	return Pipeline{Ref: PipelineRef{"grove", id}, Role: RoleChild, Parent: 1, Status: status, AllowFailure: allowed, UpdatedAt: noon}
}

func follow(status string) Pipeline {
	p := child(9, status, false)
	p.Role, p.Parent = RoleFollow, 0
	return p
}

func TestJudge(t *testing.T) {
	t.Parallel()
	job := &Failure{Job: "init", Reason: "script_failure"}
	for _, tc := range []struct {
		name      string
		pipelines []Pipeline
		in        Seen
		asked     bool // somebody wants it canceled
		grove     bool // what deploys is the pipeline of the merge
		after     time.Duration
		want      State
		reason    Reason
	}{
		{name: "created", pipelines: []Pipeline{root("created")}, want: Running},
		{name: "waits for a resource", pipelines: []Pipeline{root("waiting_for_resource")}, want: Running},
		{name: "waits for a callback", pipelines: []Pipeline{root("waiting_for_callback")}, want: Running},
		{name: "a word that is not known has not ended", pipelines: []Pipeline{root("word_of_tomorrow")}, want: Running},
		{name: "no word at all has not ended", pipelines: []Pipeline{root("")}, want: Running},
		{name: "success", pipelines: []Pipeline{root("success")}, want: Succeeded},
		{name: "child still runs", pipelines: []Pipeline{root("success"), child(2, "running", false)}, want: Running},
		{name: "failed already, but a child still runs", pipelines: []Pipeline{root("failed"), child(2, "pending", false)}, want: Running},
		{name: "manual", pipelines: []Pipeline{root("manual")}, want: Blocked, reason: ReasonWaitsForPerson},
		{name: "scheduled", pipelines: []Pipeline{root("scheduled")}, want: Blocked, reason: ReasonWaitsForPerson},
		{name: "manual child of an ended root", pipelines: []Pipeline{root("success"), child(2, "manual", false)}, want: Blocked, reason: ReasonWaitsForPerson},
		{name: "one waits while another works", pipelines: []Pipeline{root("manual"), child(2, "running", false)}, want: Running},
		{name: "failed with a job", pipelines: []Pipeline{root("failed")}, in: Seen{Failure: job}, want: Failed, reason: ReasonJobFailed},
		{name: "failed without a job", pipelines: []Pipeline{root("failed")}, want: Failed, reason: ReasonPipelineFailed},
		{name: "failed child", pipelines: []Pipeline{root("success"), child(2, "failed", false)}, want: Failed, reason: ReasonPipelineFailed},
		{name: "child that may fail", pipelines: []Pipeline{root("success"), child(2, "failed", true)}, want: Succeeded},
		{name: "child that may fail, canceled in GitLab", pipelines: []Pipeline{root("success"), child(2, "canceled", true)}, want: Succeeded},
		{name: "one may fail, the other must not", pipelines: []Pipeline{root("success"), child(2, "failed", true), child(3, "failed", false)}, want: Failed, reason: ReasonPipelineFailed},
		{name: "broken configuration", pipelines: []Pipeline{{Ref: PipelineRef{"grove", 1}, Role: RoleRoot, Status: "failed", YAMLErrors: "jobs: syntax"}}, want: Failed, reason: ReasonConfigError},
		{name: "canceled in GitLab", pipelines: []Pipeline{root("canceled")}, want: Canceled, reason: ReasonCanceledInGitLab},
		{name: "canceled by a person of ours", pipelines: []Pipeline{root("canceled")}, asked: true, want: Canceled, reason: ReasonCanceledByPerson},
		{name: "canceled by us, and a job failed of it", pipelines: []Pipeline{root("canceled"), child(2, "failed", false)}, asked: true, want: Canceled, reason: ReasonCanceledByPerson},
		{name: "failed, and GitLab canceled the rest", pipelines: []Pipeline{root("failed"), child(2, "canceled", false)}, want: Failed, reason: ReasonPipelineFailed},
		{name: "cancel came too late", pipelines: []Pipeline{root("success")}, asked: true, want: Succeeded},
		{name: "skipped", pipelines: []Pipeline{root("skipped")}, want: Failed, reason: ReasonPipelineSkipped},
		{name: "skipped child", pipelines: []Pipeline{root("success"), child(2, "skipped", false)}, want: Succeeded},

		{name: "follow-up not there yet", pipelines: []Pipeline{root("success")}, grove: true, after: 3*time.Minute - 1, want: Running},
		{name: "no follow-up came", pipelines: []Pipeline{root("success")}, grove: true, after: 3 * time.Minute, want: Succeeded, reason: ReasonNoFollowUp},
		{
			name: "merge request left open", pipelines: []Pipeline{root("success")}, after: 4 * time.Minute,
			grove: true, in: Seen{Snapshot: Snapshot{MergeRequest: &MergeRequest{State: "opened", URL: "https://gl/1"}}}, want: Failed, reason: ReasonMergeRequestOpen,
		},
		{
			name: "merge request merged, no pipeline", pipelines: []Pipeline{root("success")}, after: 4 * time.Minute,
			grove: true, in: Seen{Snapshot: Snapshot{MergeRequest: &MergeRequest{State: "merged"}}}, want: Succeeded, reason: ReasonNoFollowUp,
		},
		{name: "follow-up runs", pipelines: []Pipeline{root("success"), follow("running")}, grove: true, after: time.Hour, want: Running},
		{name: "follow-up ended well", pipelines: []Pipeline{root("success"), follow("success")}, grove: true, want: Succeeded},
		{name: "follow-up skipped", pipelines: []Pipeline{root("success"), follow("skipped")}, grove: true, want: Failed, reason: ReasonPipelineSkipped},
		{
			name: "merged late", pipelines: []Pipeline{root("success")}, after: 4 * time.Minute, grove: true,
			in: Seen{Snapshot: Snapshot{MergeRequest: &MergeRequest{State: "merged", MergedAt: noon.Add(2 * time.Minute)}}}, want: Running,
		},
		{name: "an extra counts for nothing", pipelines: []Pipeline{root("success"), {Ref: PipelineRef{"grove", 2}, Role: RoleExtra, Status: "running"}}, want: Succeeded},
		{name: "follow-up failed", pipelines: []Pipeline{root("success"), follow("failed")}, grove: true, want: Failed, reason: ReasonPipelineFailed},
		{name: "skipped root is not waited for", pipelines: []Pipeline{root("skipped")}, grove: true, want: Failed, reason: ReasonPipelineSkipped},
		{name: "no root", pipelines: []Pipeline{child(2, "success", false)}, want: Running},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			op := Operation{State: Running, Pipelines: tc.pipelines, StartedAt: noon.Add(-time.Minute)}
			if tc.asked {
				op.CancelAt = noon
			}
			if tc.grove {
				op.Follow, op.FollowWithin = FollowMergeRequest, 3*time.Minute
			}
			got := judge(op, tc.in, noon.Add(tc.after))
			if got.state != tc.want || got.reason != tc.reason {
				t.Errorf("got %s (%s), want %s (%s)", got.state, got.reason, tc.want, tc.reason)
			}
		})
	}
}

// GitLab's clock may be wrong, or a replica may not know yet when a pipeline ended. Neither may
// cut the wait for the follow-up short, or make it endless.
func TestFollowUpMeasuresFromASaneInstant(t *testing.T) {
	t.Parallel()
	within := 3 * time.Minute
	for _, tc := range []struct {
		name              string
		finished, updated time.Time
		until             time.Time // it is waited for until then
	}{
		{"as GitLab says", noon, noon, noon.Add(within)},
		{"end not known", time.Time{}, noon, noon.Add(within)},
		{"neither known: from our own start", time.Time{}, time.Time{}, noon.Add(within - time.Minute)},
		{"GitLab's clock a day behind", noon.AddDate(0, 0, -1), noon.AddDate(0, 0, -1), noon.Add(within - time.Minute)},
		{"end in the future", noon.AddDate(0, 0, 1), noon, noon.Add(within)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := root("success")
			p.FinishedAt, p.UpdatedAt = tc.finished, tc.updated
			op := Operation{State: Running, Pipelines: []Pipeline{p}, StartedAt: noon.Add(-time.Minute), Follow: FollowMergeRequest, FollowWithin: within}
			var in Seen
			if got := followUp(op, p, in, tc.until.Add(-time.Second)); got.state != Running {
				t.Errorf("a second before the end: got %s, want %s", got.state, Running)
			}
			if got := followUp(op, p, in, tc.until); got.state != Succeeded || got.reason != ReasonNoFollowUp {
				t.Errorf("at the end: got %s (%s), want %s (%s)", got.state, got.reason, Succeeded, ReasonNoFollowUp)
			}
		})
	}
}

func TestOlder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		known  string
		maxID  int64
		now    string
		at     time.Duration
		nowMax int64
		want   bool
	}{
		{"newer", "running", 5, "success", time.Second, 5, false},
		{"same look again", "running", 5, "running", 0, 5, false},
		{"older", "success", 5, "running", -time.Second, 5, true},
		{"older, though with more jobs", "success", 5, "running", -time.Second, 9, true},
		{"same second, ended became active", "success", 5, "running", 0, 5, true},
		{"same second, retried: new jobs", "failed", 5, "running", 0, 6, false},
		{"same second, ended became blocked", "success", 5, "manual", 0, 5, true},
		{"same second, one end became another", "canceled", 5, "failed", 0, 5, false},
		{"same second, active went on", "pending", 5, "running", 0, 5, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			known, now := root(tc.known), root(tc.now)
			known.Jobs.MaxID, now.Jobs.MaxID = tc.maxID, tc.nowMax
			now.UpdatedAt = noon.Add(tc.at)
			if got := older(now, known); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}

func TestSeenAfterEnd(t *testing.T) {
	t.Parallel()
	later := func(p Pipeline, d time.Duration, maxID int64) Pipeline {
		p.UpdatedAt, p.Jobs.MaxID = noon.Add(d), maxID
		return p
	}
	for _, tc := range []struct {
		name  string
		known []Pipeline
		now   []Pipeline
		again bool
	}{
		{"nothing new", []Pipeline{root("failed")}, []Pipeline{root("failed")}, false},
		{"touched, but nothing ran", []Pipeline{root("failed")}, []Pipeline{later(root("failed"), time.Minute, 0)}, false},
		{"a retry that nobody saw running", []Pipeline{root("failed")}, []Pipeline{later(root("success"), time.Minute, 9)}, true},
		{"a retry that failed again", []Pipeline{root("failed")}, []Pipeline{later(root("failed"), time.Minute, 9)}, true},
		{"another end from a replica that lags", []Pipeline{root("failed")}, []Pipeline{later(root("success"), -time.Minute, 0)}, false},
		{"retried", []Pipeline{root("failed")}, []Pipeline{later(root("running"), time.Minute, 9)}, true},
		{"retried after a success", []Pipeline{root("success")}, []Pipeline{later(root("pending"), time.Minute, 9)}, true},
		{"retried in the same second", []Pipeline{root("failed")}, []Pipeline{later(root("running"), 0, 9)}, true},
		{"a replica that lags", []Pipeline{root("success")}, []Pipeline{later(root("running"), -time.Minute, 0)}, false},
		{"a replica of the same second", []Pipeline{root("success")}, []Pipeline{later(root("running"), 0, 0)}, false},
		{"offers a manual job", []Pipeline{root("success")}, []Pipeline{later(root("manual"), time.Minute, 9)}, false},
		{"child retried", []Pipeline{root("failed"), child(2, "failed", false)}, []Pipeline{root("failed"), later(child(2, "running", false), time.Minute, 9)}, true},
		{"a pipeline that was not known", []Pipeline{root("success")}, []Pipeline{root("success"), child(2, "running", false)}, true},
		{"a pipeline that was not known and has ended well", []Pipeline{root("success")}, []Pipeline{root("success"), child(2, "success", false)}, false},
		{"what deploys was merged late", []Pipeline{root("success")}, []Pipeline{root("success"), follow("success")}, true},
		{"was not final when the run was deleted", []Pipeline{root("running")}, []Pipeline{later(root("running"), time.Minute, 9)}, false},
		{"unknown word", []Pipeline{root("failed")}, []Pipeline{later(root("word_of_tomorrow"), time.Minute, 9)}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			op := Operation{
				ID: "k7m2qx", State: Failed, Reason: ReasonJobFailed, Run: 1, Key: "k", Number: 5, Pipelines: tc.known, FinishedAt: noon,
				Failure: &Failure{Job: "init"}, CancelAt: noon, CancelBy: Actor{"slack", "T1", "U1"}, Link: "https://gl/1", Attempt: 1,
			}
			got, events, err := transition(op, Seen{Snapshot: Snapshot{Pipelines: tc.now}}, noon.Add(5*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.again {
				if got.Run != 1 || got.State != Failed || len(events) != 0 {
					t.Errorf("got run %d %s with %v, want nothing changed", got.Run, got.State, events)
				}
				return
			}
			if got.Run != 2 || got.State != Running || got.Reason != ReasonRetriedInGitLab || len(events) != 1 || events[0].Kind != EventReopened {
				t.Fatalf("got run %d %s (%s) with %v, want run 2 running, reopened", got.Run, got.State, got.Reason, events)
			}
			if got.Failure != nil || !got.CancelAt.IsZero() || !got.FinishedAt.IsZero() || got.Link != "" || len(got.Pipelines) != len(tc.now) {
				t.Errorf("the new run keeps what belonged to the old one: %+v", got)
			}
		})
	}
}

// A list that lags must not make a pipeline vanish, and ChangedAt moves only with what people see.
func TestMerge(t *testing.T) {
	t.Parallel()
	op := Operation{State: Running, Run: 1, Pipelines: []Pipeline{root("running"), child(2, "running", false)}, StartedAt: noon, ChangedAt: noon}
	see := func(op Operation, mr *MergeRequest, ps ...Pipeline) Operation {
		t.Helper()
		got, _, err := transition(op, Seen{Snapshot: Snapshot{Pipelines: ps, MergeRequest: mr}}, op.ChangedAt.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	same := see(op, nil, root("running"), child(2, "running", false))
	if !same.ChangedAt.Equal(noon) {
		t.Errorf("changed at %s by a look that showed nothing new", same.ChangedAt)
	}
	if less := see(op, nil, root("running")); len(less.Pipelines) != 2 || !less.ChangedAt.Equal(noon) {
		t.Errorf("got %d pipelines after a list that lags, want 2", len(less.Pipelines))
	}
	more := root("running")
	more.Jobs.Done, more.UpdatedAt = 1, noon.Add(time.Second)
	if got := see(op, nil, more); got.ChangedAt.Equal(noon) {
		t.Error("a job that ended is no change")
	}
	open := see(op, &MergeRequest{State: "opened", URL: "https://gl/mr/1"}, root("running"))
	if open.Link != "https://gl/mr/1" || open.ChangedAt.Equal(noon) {
		t.Errorf("got link %q, want the open merge request", open.Link)
	}
	if merged := see(open, &MergeRequest{State: "merged", URL: "https://gl/mr/1"}, root("running")); merged.Link != "" {
		t.Errorf("got link %q after the merge, want none", merged.Link)
	}
}

// One look that fails is nothing to tell; a minute without an answer is, and an answer takes it back.
func TestLookFailedIsToldAfterAMinute(t *testing.T) {
	t.Parallel()
	op := Operation{State: Running, Run: 1, Pipelines: []Pipeline{root("running")}, StartedAt: noon}
	fail := LookFailed{ReasonGitLabUnavailable, "GitLab does not answer."}
	step := func(in Input, at time.Duration) {
		t.Helper()
		var err error
		if op, _, err = transition(op, in, noon.Add(at)); err != nil {
			t.Fatal(err)
		}
	}
	step(fail, time.Second)
	step(fail, 30*time.Second)
	if op.Reason != "" || op.Errors != 2 {
		t.Errorf("got reason %q and %d errors after half a minute, want none told and 2", op.Reason, op.Errors)
	}
	step(fail, 61*time.Second)
	if op.Reason != ReasonGitLabUnavailable || op.State != Running {
		t.Errorf("got %s (%s) after a minute, want running (%s)", op.State, op.Reason, ReasonGitLabUnavailable)
	}
	step(Seen{Snapshot: Snapshot{Pipelines: []Pipeline{root("running")}}}, 90*time.Second)
	if op.Reason != "" || op.Detail != "" || op.Errors != 0 || !op.ErrorSince.IsZero() {
		t.Errorf("got %q, %q, %d errors after an answer, want them taken back", op.Reason, op.Detail, op.Errors)
	}
}

// A bridge that was retried takes with it whatever its first pipeline had started.
func TestReplaced(t *testing.T) {
	t.Parallel()
	p := func(id, parent int64, bridge string) Pipeline {
		return Pipeline{Ref: PipelineRef{"grove", id}, Role: RoleChild, Parent: parent, Bridge: bridge}
	}
	all := []Pipeline{root("success"), p(2, 1, "deploy"), p(3, 2, "helm"), p(4, 1, "deploy"), p(5, 4, "helm"), p(6, 1, "smoke")}
	want := map[int64]bool{2: true, 3: true}
	for _, one := range all {
		if got := Replaced(one, all); got != want[one.Ref.ID] {
			t.Errorf("pipeline %d: got %t, want %t", one.Ref.ID, got, want[one.Ref.ID])
		}
	}
}
