package gitlab_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocim/adapters/gitlab"
	"ocim/adapters/gitlab/gitlabtest"
	"ocim/internal/secret"
	"ocim/ops"
)

func withKey(k string) ops.PipelineSpec {
	s := spec()
	s.Payload = map[string]string{"ocim_key": k}
	s.Key = k
	return s
}

func withRef(k, ref string) ops.PipelineSpec {
	s := withKey(k)
	s.Payload["ocim_ref"] = ref
	return s
}

func TestFindLooksIntoEachPipelineOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range "1234" {
		w.create(withKey(strings.Repeat(string(c), 32)))
	}
	for range 3 {
		if p, ok, err := w.Find(t.Context(), spec()); err != nil || ok {
			t.Fatalf("Find before: got %v %v %v, want none", p.Ref, ok, err)
		}
	}
	want := w.create(spec())
	got, ok, err := w.Find(t.Context(), spec())
	if err != nil || !ok || got.Ref != want.Ref {
		t.Fatalf("Find: got %v %v %v, want %v", got.Ref, ok, err, want.Ref)
	}
	if n := len(w.server.Requests("variables")); n != 5 {
		t.Errorf("reads of variables: got %d, want 5", n)
	}
}

func TestFindReadsAllPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.create(spec())
	for i := range 130 {
		w.create(withKey(strings.Repeat(string("abcdef"[i%6]), 32)))
	}
	got, ok, err := w.Find(t.Context(), spec())
	if err != nil || !ok || got.Ref != want.Ref {
		t.Errorf("Find: got %v %v %v, want %v", got.Ref, ok, err, want.Ref)
	}
}

func TestFindTakesTheFirstOfSeveral(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.create(spec())
	w.create(spec())
	got, ok, err := w.Find(t.Context(), spec())
	if err != nil || !ok || got.Ref != first.Ref {
		t.Errorf("Find: got %v %v %v, want %v", got.Ref, ok, err, first.Ref)
	}
	if all, err := w.Adapter.Find(t.Context(), spec(), nothingKnown); err != nil || len(all) != 2 {
		t.Errorf("Find: got %d, %v, want both", len(all), err)
	}
}

// The configuration may have changed since the request was made.
func TestFindAsksNeitherForBranchNorWayToStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.create(spec())
	s := spec()
	s.GitRef, s.Start = "other", ops.StartPipeline
	if got, ok, err := w.Find(t.Context(), s); err != nil || !ok || got.Ref != want.Ref {
		t.Errorf("got %v %v %v, want %v", got.Ref, ok, err, want.Ref)
	}
}

func TestFindIgnoresWhatIsOlder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(spec())
	later := spec()
	later.CreatedAfter = start().Add(2 * time.Minute)
	if p, ok, err := w.Find(t.Context(), later); err != nil || ok {
		t.Errorf("got %v %v %v, want none", p.Ref, ok, err)
	}
}

// TestFindDoesNotTakeWhatItMayNotReadForNothing: a token that may not read variables must never lead
// to a second pipeline.
func TestFindDoesNotTakeWhatItMayNotReadForNothing(t *testing.T) {
	t.Parallel()
	const other = "glpat-of-a-stranger"
	w := newWorld(t, func(c *gitlab.Config) {
		p := c.Projects["cluster"]
		p.Token = secret.New(other)
		c.Projects["cluster"] = p
	})
	w.server.AddToken(42, gitlabtest.Token{Value: other, User: "sten", Role: gitlabtest.Developer})
	w.create(spec())
	_, ok, err := w.Find(t.Context(), spec())
	if e := opsError(t, err); ok || e.Code != ops.CodeDenied || e.Reason != ops.ReasonOutcomeUnknown || e.Next == "" {
		t.Errorf("got %v %v, want denied outcome_unknown with a remedy", ok, err)
	}
}

func TestFindAsksAgainForWhatLags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(spec())
	lag := w.server.Inject(gitlabtest.Fault{Do: gitlabtest.Unseen(10 * time.Second)})
	if _, ok, err := w.Find(t.Context(), spec()); ok || err != nil {
		t.Errorf("Find while the list lags: got %v %v, want nothing", ok, err)
	}
	lag.Remove()
	gone := w.server.Inject(gitlabtest.Fault{
		Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/pipelines/") },
		Do:    gitlabtest.Answer(404, gitlabtest.JSONHeader(), `{"message":"404 Not found"}`),
	})
	if _, ok, err := w.Find(t.Context(), spec()); ok || ops.CodeOf(err) != ops.CodeUnavailable {
		t.Errorf("Find while only the list shows it: got %v %v, want unavailable", ok, err)
	}
	gone.Remove()
	empty := w.server.Inject(gitlabtest.Fault{
		Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/variables") },
		Do:    gitlabtest.Answer(200, gitlabtest.JSONHeader(), `[]`),
	})
	if _, ok, err := w.Find(t.Context(), spec()); ok || err != nil {
		t.Errorf("Find while the variables lag: got %v %v, want nothing", ok, err)
	}
	empty.Remove()
	if _, ok, err := w.Find(t.Context(), spec()); !ok || err != nil {
		t.Errorf("Find at last: got %v %v, want it", ok, err)
	}
}

// Replicas differ: one does not know a young pipeline whose variables are asked for, the next one
// does. That is a reason to look again and none to give up; once the pipeline is old, it is GitLab
// that hides it.
func TestFindDoesNotGiveUpOnAYoungPipeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(spec())
	w.server.Inject(gitlabtest.Fault{Route: "variables", Do: gitlabtest.Answer(404, gitlabtest.JSONHeader(), `{"message":"404 Not found"}`)})
	for _, tt := range []struct {
		age  time.Duration
		want ops.Code
	}{{0, ops.CodeUnavailable}, {30 * time.Second, ops.CodeUnavailable}, {61 * time.Second, ops.CodeDenied}} {
		w.clock.Advance(tt.age)
		if _, ok, err := w.Find(t.Context(), spec()); ok || ops.CodeOf(err) != tt.want {
			t.Errorf("%s later: got %v %v, want %s", tt.age, ok, err, tt.want)
		}
	}
}

func TestRecentReturnsWhatCarriesAReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.create(spec())
	w.create(withKey(strings.Repeat("a", 32)))
	found, err := w.Recent(t.Context(), "cluster", start().Add(-time.Hour), nothingKnown)
	if err != nil {
		t.Fatalf("Recent: %v", err)
	}
	if len(found) != 1 || found[0].Reference != "sealed-reference" || found[0].Pipeline.Ref != want.Ref {
		t.Errorf("got %+v, want %v with its reference", found, want.Ref)
	}
}

func nothingKnown(ops.PipelineRef) bool { return false }

func TestRecentLeavesOutWhatIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	known := w.create(spec())
	unknown := w.create(withRef(strings.Repeat("a", 32), "another-reference"))
	before := len(w.server.Requests("variables"))
	found, err := w.Recent(t.Context(), "cluster", start().Add(-time.Hour), func(r ops.PipelineRef) bool { return r == known.Ref })
	if err != nil || len(found) != 1 || found[0].Pipeline.Ref != unknown.Ref {
		t.Errorf("got %+v %v, want %v alone", found, err, unknown.Ref)
	}
	if got := len(w.server.Requests("variables")) - before; got != 1 {
		t.Errorf("got %d pipelines looked into, want 1", got)
	}
}

func TestRecentReturnsWhatItHasWhenItFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(spec())
	want := w.create(withRef(strings.Repeat("a", 32), "another-reference"))
	w.server.Inject(gitlabtest.Fault{Route: "variables", Skip: 1, Do: gitlabtest.DropBefore()})
	found, err := w.Recent(t.Context(), "cluster", start().Add(-time.Hour), nothingKnown)
	if ops.CodeOf(err) != ops.CodeUnavailable || len(found) != 1 || found[0].Pipeline.Ref != want.Ref {
		t.Errorf("got %+v %v, want the newest and an error", found, err)
	}
}

func TestFindPassesOverWhatIsAnothers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.create(spec())
	other := w.create(withKey(strings.Repeat("a", 32)))
	found, err := w.Adapter.Find(t.Context(), spec(), func(r ops.PipelineRef) bool { return r == other.Ref })
	if err != nil || len(found) != 1 || found[0].Ref != want.Ref {
		t.Errorf("got %+v %v, want %v", found, err, want.Ref)
	}
	if got := len(w.server.Requests("variables")); got != 1 {
		t.Errorf("got %d pipelines looked into, want 1", got)
	}
}

// After a restart many operations look for their pipelines among the same candidates.
func TestFindSharesWhatManyRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 20 {
		w.create(withKey(fmt.Sprintf("%032d", n)))
	}
	hold := w.server.Inject(gitlabtest.Fault{Route: "variables", Do: gitlabtest.Hang()})
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			if _, ok, err := w.Find(t.Context(), withKey(fmt.Sprintf("%032d", n))); !ok || err != nil {
				t.Errorf("Find %d: got %v %v, want it", n, ok, err)
			}
		})
	}
	// All of them have the list and want the first candidate's variables.
	if err := w.server.Until(t.Context(), func() bool { return len(w.server.Requests("pipelines")) >= 8 && hold.Hits() >= 1 }); err != nil {
		t.Fatal(err)
	}
	hold.Remove()
	all.Wait()
	// Those who come late may read one more before they learn of the others.
	if got := len(w.server.Requests("variables")); got > 40 {
		t.Errorf("got %d reads of variables for 20 pipelines by 8, want each read once or nearly so", got)
	}
}

func TestLatestIsTheNewestPipeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if p, ok, err := w.Latest(t.Context(), "cluster"); err != nil || ok {
		t.Errorf("before: got %v %v %v, want none", p.Ref, ok, err)
	}
	w.create(spec())
	want := w.create(withKey(strings.Repeat("a", 32)))
	if p, ok, err := w.Latest(t.Context(), "cluster"); err != nil || !ok || p.Ref != want.Ref {
		t.Errorf("after: got %v %v %v, want %v", p.Ref, ok, err, want.Ref)
	}
}

func TestProbeTellsGitLabsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.Advance(time.Hour)
	at, err := w.Probe(t.Context(), "cluster")
	if err != nil || !at.Equal(start().Add(time.Hour)) {
		t.Errorf("got %v %v, want %v", at, err, start().Add(time.Hour))
	}
	w.server.RevokeToken(readToken)
	if _, err := w.Probe(t.Context(), "cluster"); ops.CodeOf(err) != ops.CodeDenied {
		t.Errorf("revoked token: got %v, want denied", err)
	}
}

func TestInstancesAreTheFoldersOfTheRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []string
	for i := range 230 {
		name := "i" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + string(rune('a'+i/26))
		text := "x"
		w.server.SetFile(42, "instances/"+name+"/config.yml", &text)
		want = append(want, name)
	}
	text := "x"
	w.server.SetFile(42, "instances/README.md", &text)
	want = append(want, "demo", "campus")
	slices.Sort(want)
	got, err := w.Instances(t.Context(), "cluster", "instances/")
	if err != nil {
		t.Fatalf("Instances: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	if got, err := w.Instances(t.Context(), "cluster", "nowhere"); ops.CodeOf(err) != ops.CodeNotFound || len(got) != 0 {
		t.Errorf("missing folder: got %v %v, want not_found", got, err)
	}
}
