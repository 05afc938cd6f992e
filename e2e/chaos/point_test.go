//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocim/adapters/gitlab/gitlabtest"
	"ocim/adapters/slack/slacktest"
	"ocim/e2e/process"
)

// at most so many worlds live at the same time; they mostly wait.
const worlds = 8

// TestF01_CrashAtEveryPoint kills the program at each crash point that its source names: at the
// first passage and again while it recovers, and at a later passage. Each time GitLab has lost an
// answer before. Afterwards every promise has been kept.
func TestF01_CrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	s := seed(t)
	passed := passages(t, s)
	var all []scenario
	for _, point := range named(t) {
		n := passed[point]
		if n == 0 {
			t.Errorf("crash point %s is in the source, and the load does not pass it", point)
			continue
		}
		all = append(all, scenario{point: point, lives: []string{point, point}})
		if later := max(2, n/2); n > 2 { // how often a point is passed is not the same each time
			all = append(all, scenario{point: point, lives: []string{fmt.Sprintf("%s:%d", point, later)}})
		}
	}
	for point := range passed {
		if !slices.Contains(named(t), point) {
			t.Errorf("crash point %s is passed, and was not found in the source", point)
		}
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, worlds)
	for i, sc := range all {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			// Where the bot may look through its messages, it must do without duplicates; half of the
			// scenarios are such.
			sc.run(t, s+uint64(i), i%2 == 0)
		})
	}
	wait.Wait()
	t.Logf("%d crash points, %d scenarios", len(passed), len(all))
}

// named lists the crash points that the source names.
func named(t *testing.T) []string {
	t.Helper()
	call := regexp.MustCompile(`crash\.Point\("([^"]+)"\)`)
	found := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range call.FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("look for crash points: %v, found %d", err, len(found))
	}
	return slices.Sorted(maps.Keys(found))
}

// small is a world for one scenario: Grove's four pipelines for each deploy, one Slack.
func small(t *testing.T, seed uint64, findable bool) (*world, error) {
	t.Helper()
	s := setup{seed: seed, instances: 3, grove: true, hooks: true, timeout: 2 * time.Second}
	if findable {
		s.findable = 1
	} else {
		s.blind = 1
	}
	return newWorld(t, s)
}

// slow is the instance whose deploy takes so long, 12 s, that it can be canceled.
const slow = "shop-01"

// spoil makes GitLab and chat lose what a crash makes worth losing.
func (w *world) spoil() {
	page := http.Header{"Content-Type": {"text/html"}}
	w.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: gitlabtest.DropAfter()})
	w.lab.Inject(gitlabtest.Fault{Route: "trigger", Times: 1, Do: gitlabtest.AnswerAfter(http.StatusBadGateway, page, "<html>502</html>")})
	w.lab.Inject(gitlabtest.Fault{Route: "trigger", Skip: 1, Times: 1, Do: gitlabtest.HangAfter()})
	w.lab.Inject(gitlabtest.Fault{Route: "pipelines", Times: 1, Do: gitlabtest.Answer(http.StatusInternalServerError, page, "")})
	w.lab.Override(project, gitlabtest.Override{Instance: slow, Durations: map[string]time.Duration{"build-openedx": 2 * time.Hour}})
	w.lab.Override(project, gitlabtest.Override{Instance: "shop-02", FailJob: "deploy", Failures: -1})
	for _, ws := range w.chats {
		ws.Fail(slacktest.Fault{Kind: slacktest.Lost, Method: "chat.postMessage", Times: 1})
		ws.Fail(slacktest.Fault{Kind: slacktest.ServerError, Method: "chat.update", Times: 1})
	}
}

// passages counts how often each point is passed by what a scenario does.
func passages(t *testing.T, seed uint64) map[string]int {
	t.Helper()
	w, err := small(t, seed, true)
	if err != nil {
		t.Fatal(err)
	}
	w.spoil()
	log := filepath.Join(t.TempDir(), "points")
	if err := w.bot.Start(t.Context(), "OCIM_CRASH_LOG="+log); err != nil {
		t.Fatal(err)
	}
	w.story(t.Context(), t)
	v, took, err := w.finish(t.Context())
	if err != nil {
		t.Error(err)
	}
	w.report(t, v, took)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	passed := map[string]int{}
	for point := range strings.FieldsSeq(string(text)) {
		passed[point]++
	}
	for _, point := range slices.Sorted(maps.Keys(passed)) {
		t.Logf("%s is passed %d times", point, passed[point])
	}
	return passed
}

// story deploys each instance, cancels the slow deploy, and asks again until it is answered.
func (w *world) story(ctx context.Context, t *testing.T) {
	t.Helper()
	const again = 400 // 20 s and more
	var all sync.WaitGroup
	for range w.instances {
		all.Go(func() {
			r := w.request()
			if err := w.ask(ctx, r, again); err != nil {
				t.Error(err)
				return
			}
			if r.Said != Accepted {
				t.Errorf("deploy of %s: got %v, want it accepted", r.Instance, r.Said)
				return
			}
			if r.Instance == slow {
				if err := w.started(ctx, r); err != nil {
					t.Errorf("wait for the pipeline of %s: %v", r.Instance, err)
				}
				if err := w.cancel(ctx, r, again); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// started waits until GitLab has a pipeline of the request.
func (w *world) started(ctx context.Context, r *Request) error {
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	return w.lab.Until(ctx, func() bool {
		return slices.ContainsFunc(w.lab.Triggers(), func(e gitlabtest.Entry) bool {
			return e.PipelineID != 0 && e.Body["TUTOR_VERSION"] == r.Token
		})
	})
}

// scenario is the lives of one bot: each but the last is ended at the point and passage named.
type scenario struct {
	point string
	lives []string
}

func (sc scenario) run(t *testing.T, seed uint64, findable bool) {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Errorf("crash at %v: %v", sc.lives, err)
		}
	}
	w, err := small(t, seed, findable)
	if err != nil {
		fail(err)
		return
	}
	w.spoil()
	told := make(chan struct{})
	started := make(chan error, 1)
	over, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { started <- w.live(over, sc.lives) }()
	go func() {
		defer close(told)
		w.story(t.Context(), t)
	}()
	<-told
	// A point that only recovery passes may not come any more: then the last life goes on.
	w.heal()
	v, took := w.quiet(t.Context())
	stop()
	fail(<-started)
	end, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code, err := w.bot.Terminate(end)
	fail(err)
	if code != 0 {
		t.Errorf("crash at %v: got exit code %d after SIGTERM, want 0", sc.lives, code)
	}
	fail(w.inspect(t.Context(), &v))
	for _, p := range v.Problems {
		t.Errorf("crash at %v (findable %t): %s", sc.lives, findable, p)
	}
	if w.kills == 0 {
		t.Errorf("crash at %v: it was never passed", sc.lives)
	}
	if v.Accepted != len(w.instances) {
		t.Errorf("crash at %v: got %d deploys accepted, want %d", sc.lives, v.Accepted, len(w.instances))
	}
	t.Logf("crash at %v: %d kills, %d accepted, %d duplicates, quiet after %s", sc.lives, w.kills, v.Accepted, v.Duplicates, took.Round(time.Millisecond))
}

// live runs the lives one after the other, until ctx ends in the last one.
func (w *world) live(ctx context.Context, lives []string) error {
	for _, at := range append(slices.Clone(lives), "") {
		var env []string
		if at != "" {
			env = []string{"OCIM_CRASH_AT=" + at}
		}
		err := w.bot.Start(context.WithoutCancel(ctx), env...)
		if err != nil && !errors.Is(err, process.ErrEnded) {
			return err
		}
		select {
		case <-w.bot.Ended():
			if at == "" {
				return fmt.Errorf("the bot has ended by itself: %w", err)
			}
			w.mu.Lock()
			w.kills++
			w.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
