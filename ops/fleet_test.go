package ops_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ocim/internal/clock"
	"ocim/ops"
	"ocim/ops/opstest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func away() error {
	return &ops.Error{Code: ops.CodeUnavailable, Reason: ops.ReasonGitLabUnavailable, Msg: "GitLab does not answer."}
}

// newFleet has one cluster that is listed and two that are read from repositories.
func newFleet() (*ops.Fleet, *opstest.Lab, *clock.Fake) {
	c := clock.NewFake(noon)
	lab := opstest.NewLab(c)
	lab.SetInstances("grove-eu", "shop", "demo", "twin", "README.md", "-bad", "kube-system")
	lab.SetInstances("grove-us", "campus", "twin")
	f := ops.NewFleet(
		[]ops.Project{
			{Name: "grove-us", GitRef: "main"},
			{Name: "grove-eu", GitRef: "main", Actions: map[string]ops.Action{"deploy": {Verb: "deploy"}}},
			{Name: "listed"},
		},
		[]ops.Cluster{
			{Name: "eu", Project: "grove-eu", Folder: "instances"},
			{Name: "us", Project: "grove-us", Folder: "instances"},
			{Name: "lab", Project: "listed", Instances: []string{"bench"}},
		}, lab, c)
	return f, lab, c
}

func TestFleetResolve(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		typed   string
		want    string
		reason  ops.Reason
		suggest []string
	}{
		{name: "by name", typed: "demo", want: "eu/demo"},
		{name: "with its cluster", typed: "us/campus", want: "us/campus"},
		{name: "listed in the configuration", typed: "bench", want: "lab/bench"},
		{name: "on two clusters", typed: "twin", reason: ops.ReasonAmbiguousInstance, suggest: []string{"eu/twin", "us/twin"}},
		{name: "on two clusters, one named", typed: "us/twin", want: "us/twin"},
		{name: "near miss", typed: "dmeo", reason: ops.ReasonUnknownInstance, suggest: []string{"demo"}},
		{name: "near miss of a qualified name", typed: "eu/shpo", reason: ops.ReasonUnknownInstance, suggest: []string{"shop"}},
		{name: "on the wrong cluster", typed: "us/demo", reason: ops.ReasonUnknownInstance, suggest: []string{"demo"}},
		{name: "nothing alike", typed: "xyzzy", reason: ops.ReasonUnknownInstance},
		{name: "unknown cluster", typed: "eus/demo", reason: ops.ReasonUnknownCluster, suggest: []string{"eu", "us"}},
		{name: "a file in the folder", typed: "README.md", reason: ops.ReasonUnknownInstance},
		{name: "a name that a cluster needs", typed: "kube-system", reason: ops.ReasonUnknownInstance},
		{name: "a path", typed: "eu/../demo", reason: ops.ReasonUnknownInstance},
		{name: "nothing", typed: "", reason: ops.ReasonUnknownInstance},
		{name: "cluster alone", typed: "eu/", reason: ops.ReasonUnknownInstance},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, _, _ := newFleet()
			got, err := f.Resolve(t.Context(), tc.typed, false)
			if tc.reason == "" {
				if err != nil || got.String() != tc.want {
					t.Errorf("got %s, %v, want %s", got, err, tc.want)
				}
				return
			}
			var e *ops.Error
			if !errors.As(err, &e) || e.Reason != tc.reason || got != (ops.Target{}) {
				t.Fatalf("got %s, %v, want %s", got, err, tc.reason)
			}
			slices.Sort(e.Suggest)
			if !slices.Equal(e.Suggest, tc.suggest) {
				t.Errorf("got %q suggested, want %q", e.Suggest, tc.suggest)
			}
			if len(e.Suggest) == 0 && e.Next == "" {
				t.Error("nothing says what to do next")
			}
		})
	}
}

func TestFleetKeepsAListForAMinute(t *testing.T) {
	t.Parallel()
	f, lab, c := newFleet()
	resolve := func(name string, fresh bool) error {
		_, err := f.Resolve(t.Context(), name, fresh)
		return err
	}
	if err := resolve("eu/demo", false); err != nil {
		t.Fatal(err)
	}
	lab.SetInstances("grove-eu", "shop", "born")
	c.Advance(59 * time.Second)
	if err := resolve("eu/demo", false); err != nil || lab.Calls("instances") != 1 {
		t.Errorf("after 59 s: got %v and %d reads, want the list that was read first", err, lab.Calls("instances"))
	}
	if err := resolve("eu/born", true); err != nil || lab.Calls("instances") != 2 {
		t.Errorf("fresh: got %v and %d reads, want it read again", err, lab.Calls("instances"))
	}
	c.Advance(60 * time.Second)
	lab.SetInstances("grove-eu", "later")
	if err := resolve("eu/later", false); err != nil {
		t.Errorf("after 60 s: %v, want it read again", err)
	}
}

func TestFleetWithoutGitLab(t *testing.T) {
	t.Parallel()
	gone := slices.Repeat([]opstest.Fault{{Err: away()}}, 1000)

	t.Run("never read", func(t *testing.T) {
		t.Parallel()
		f, lab, _ := newFleet()
		lab.Fail("instances", gone...)
		// Two clusters are silent: the name could be on either.
		if got, err := f.Resolve(t.Context(), "demo", false); ops.CodeOf(err) != ops.CodeUnavailable || got != (ops.Target{}) {
			t.Errorf("got %s, %v, want unavailable and no guess", got, err)
		}
		// The cluster is named: it may well be there, and is checked again before the start.
		if got, err := f.Resolve(t.Context(), "eu/demo", false); ops.CodeOf(err) != ops.CodeUnavailable || got.String() != "eu/demo" {
			t.Errorf("got %s, %v, want unavailable with eu/demo", got, err)
		}
		if got, err := f.Resolve(t.Context(), "bench", false); err != nil || got.String() != "lab/bench" {
			t.Errorf("got %s, %v, want what is listed found all the same", got, err)
		}
		if got, err := f.Resolve(t.Context(), "lab/dmeo", false); ops.ReasonOf(err) != ops.ReasonUnknownInstance {
			t.Errorf("got %s, %v, want a listed cluster to know what it has not", got, err)
		}
		all, unread := f.Instances(t.Context())
		if len(all) != 1 || !slices.Equal(unread, []string{"eu", "us"}) {
			t.Errorf("got %v, unread %v, want the listed one and eu, us unread", all, unread)
		}
	})

	t.Run("read before", func(t *testing.T) {
		t.Parallel()
		f, lab, c := newFleet()
		if all, unread := f.Instances(t.Context()); len(all) != 6 || unread != nil {
			t.Fatalf("got %v, unread %v, want six", all, unread)
		}
		lab.Fail("instances", gone...)
		c.Advance(2 * time.Hour)
		if got, err := f.Resolve(t.Context(), "demo", false); err != nil || got.String() != "eu/demo" {
			t.Errorf("got %s, %v, want the old list to do", got, err)
		}
		if _, err := f.Resolve(t.Context(), "born", false); ops.CodeOf(err) != ops.CodeUnavailable {
			t.Errorf("got %v, want unavailable: it may be new", err)
		}
		if all, unread := f.Instances(t.Context()); len(all) != 6 || unread != nil {
			t.Errorf("got %v, unread %v, want the old list", all, unread)
		}
	})

	t.Run("is left alone for a while", func(t *testing.T) {
		t.Parallel()
		f, lab, c := newFleet()
		lab.Fail("instances", gone...)
		for range 20 {
			_, _ = f.Resolve(t.Context(), "eu/demo", false)
		}
		if got := lab.Calls("instances"); got != 1 {
			t.Errorf("got %d reads of a GitLab that hangs, want 1", got)
		}
		c.Advance(10 * time.Second)
		_, _ = f.Resolve(t.Context(), "eu/demo", false)
		if got := lab.Calls("instances"); got != 2 {
			t.Errorf("got %d reads after the pause, want 2", got)
		}
	})

	t.Run("back again", func(t *testing.T) {
		t.Parallel()
		f, lab, c := newFleet()
		lab.Fail("instances", opstest.Fault{Err: away()})
		_, _ = f.Resolve(t.Context(), "eu/demo", false)
		c.Advance(10 * time.Second)
		if got, err := f.Resolve(t.Context(), "eu/demo", false); err != nil || got.String() != "eu/demo" {
			t.Errorf("got %s, %v, want it found", got, err)
		}
	})
}

// One person who hangs up must not make the list unreadable for the others.
func TestFleetCanceledReadIsNotHeldAgainstGitLab(t *testing.T) {
	t.Parallel()
	f, _, _ := newFleet()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Resolve(ctx, "eu/demo", false); err == nil {
		t.Fatal("got no error from a read that was canceled")
	}
	if got, err := f.Resolve(t.Context(), "eu/demo", false); err != nil {
		t.Errorf("got %s, %v, want it found", got, err)
	}
}

func TestFleetActionAndLists(t *testing.T) {
	t.Parallel()
	f, _, _ := newFleet()
	if p, a, err := f.Action("eu", "deploy"); err != nil || p.Name != "grove-eu" || a.Verb != "deploy" {
		t.Errorf("got %s, %s, %v, want deploy of grove-eu", p.Name, a.Verb, err)
	}
	if _, _, err := f.Action("eu", "destroy"); ops.ReasonOf(err) != ops.ReasonUnknownVerb || !strings.Contains(err.Error(), "destroy cannot be done on eu") {
		t.Errorf("got %v, want %s", err, ops.ReasonUnknownVerb)
	}
	if _, _, err := f.Action("ue", "deploy"); ops.ReasonOf(err) != ops.ReasonUnknownCluster {
		t.Errorf("got %v, want %s", err, ops.ReasonUnknownCluster)
	}
	if got := f.Projects(); !slices.Equal(got, []string{"grove-eu", "grove-us", "listed"}) {
		t.Errorf("got projects %v, want them in order", got)
	}
	if c, ok := f.Cluster("us"); !ok || c.Project != "grove-us" {
		t.Errorf("got %+v, %t, want us", c, ok)
	}
	if _, ok := f.Cluster("ue"); ok {
		t.Error("found a cluster that is not there")
	}
}

// A GitLab that takes a request and does not answer costs whoever asked first a moment, and nobody
// else anything; its late answer is used.
func TestFleetWithAGitLabThatHangs(t *testing.T) {
	t.Parallel()
	f, lab, c := newFleet()
	release := make(chan struct{})
	lab.Before("instances", func() { <-release })
	hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got, err := f.Resolve(hurried, "eu/demo", false); ops.CodeOf(err) != ops.CodeUnavailable || got.String() != "eu/demo" {
		t.Fatalf("got %s, %v, want unavailable with eu/demo", got, err)
	}
	for range 20 {
		// Without a deadline: it must not wait.
		if got, err := f.Resolve(t.Context(), "eu/demo", false); ops.CodeOf(err) != ops.CodeUnavailable || got.String() != "eu/demo" {
			t.Fatalf("while it hangs: got %s, %v, want unavailable with eu/demo", got, err)
		}
	}
	c.Advance(10 * time.Second) // somebody may ask again, and joins the read that is under way
	found := make(chan error, 1)
	go func() {
		_, err := f.Resolve(t.Context(), "eu/demo", false)
		found <- err
	}()
	close(release)
	if err := <-found; err != nil {
		t.Errorf("got %v, want the late answer", err)
	}
	if got := lab.Calls("instances"); got != 1 {
		t.Errorf("got %d reads, want 1", got)
	}
}
