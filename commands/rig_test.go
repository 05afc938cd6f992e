package commands

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ocim/internal/logtest"

	"ocim/adapters/chat"
	"ocim/adapters/chat/chattest"
	"ocim/internal/clock"
	"ocim/notifier"
	"ocim/ops"
	"ocim/ops/opstest"
	"ocim/store"
	"ocim/templates"
)

// rig is the commands on the real store, templates and notifier, with a chat and a GitLab in memory
// and a clock that stands still. Nothing runs by itself. Random bytes are the same in every run, so
// ids are as well.
type rig struct {
	t        *testing.T
	clock    *clock.Fake
	lab      *opstest.Lab
	chat     *chattest.Platform
	store    *store.Store
	notifier *notifier.Notifier
	commands *Commands
	logs     *logtest.Buffer
	keys     int
	dialog   *chat.Dialog // the last one that was opened
	late     error        // what opening a dialog answers
}

// rigProjects are the actions that the rig's two projects know.
func rigProjects() []ops.Project {
	deploy := ops.Action{
		Verb: "deploy", Start: ops.StartTrigger, Unverified: true, Follow: ops.FollowMergeRequest, FollowWithin: time.Minute,
		Variables: map[string]string{"INSTANCE_NAME": "{instance}", "DEPLOYMENT_REQUEST_ID": "{number}"},
		Params: []ops.ActionParam{
			{Name: "version", Into: ops.IntoPayload, Field: "TUTOR_VERSION", Pattern: regexp.MustCompile(`^(?:[0-9]+(\.[0-9]+)*)$`), Help: "A version of Tutor, such as 21.0.1."},
			{Name: "size", Into: ops.IntoPayload, Field: "SIZE", Type: ops.ParamInt},
			{Name: "debug", Into: ops.IntoPayload, Field: "DEBUG", Type: ops.ParamBool},
			{Name: "color", Into: ops.IntoPayload, Field: "COLOR", Choices: []string{"red", "green"}},
			{Name: "note", Into: ops.IntoPayload, Field: "NOTE"},
			{Name: "password", Into: ops.IntoPayload, Field: "PASSWORD", Secret: true, Pattern: regexp.MustCompile(`^(?:[a-z-]{8,})$`)},
		},
	}
	build := ops.Action{
		Verb: "deploy", Start: ops.StartPipeline, KeyVariable: "OCIM_KEY",
		Variables: map[string]string{"TARGET": "{instance}"}, Inputs: map[string]any{"who": "{actor}"},
		Params: []ops.ActionParam{
			{Name: "ticket", Into: ops.IntoVariable, Field: "TICKET", Required: true, Help: "The number of the ticket."},
			{Name: "pin", Into: ops.IntoInput, Field: "pin", Type: ops.ParamInt, Secret: true},
		},
	}
	return []ops.Project{
		{Name: "grove-eu", GitRef: "main", Actions: map[string]ops.Action{"deploy": deploy}},
		{Name: "plain-us", GitRef: "release", Actions: map[string]ops.Action{"deploy": build}},
	}
}

type rigOption func(*Config)

func newRig(t *testing.T, opts ...rigOption) *rig {
	t.Helper()
	return newRigIn(t, t.TempDir(), opts...)
}

// newRigIn is newRig with the store's files in dir.
func newRigIn(t *testing.T, dir string, opts ...rigOption) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.NewFake(time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)), logs: &logtest.Buffer{}, chat: chattest.NewPlatform("fake")}
	r.lab = opstest.NewLab(r.clock)
	r.lab.SetInstances("grove-eu", "campus", "demo", "shop")
	var err error
	r.store, err = store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "ocim.db"), Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	signer, err := ops.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := chat.LoadTemplates(templates.FS, "")
	if err != nil {
		t.Fatal(err)
	}
	rights := ops.NewStaticPolicy()
	rights.Allow("fake", "W1", ops.MayStart, "alice", "dora")
	rights.Allow("fake", "W1", ops.MayCancel, "alice", "carol")
	rights.Allow("fake", "W1", ops.MayRetry, "alice", "carol")
	clusters := []ops.Cluster{
		{Name: "eu", Project: "grove-eu", Folder: "instances"},
		{Name: "us", Project: "plain-us", Instances: []string{"shop", "store"}},
	}
	log := slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	service := ops.NewService(ops.Config{
		Store: r.store, Pipelines: r.lab, Repos: r.lab, Fleet: ops.NewFleet(rigProjects(), clusters, r.lab, r.clock), Policy: rights, Signer: signer,
		Clock: r.clock, Log: log, Random: seeded(), Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") },
	})
	chats := map[string]chat.Platform{"fake": r.chat}
	c := Config{
		Service: service, Templates: text, Trigger: "/ocim", Log: log,
		Platforms: func(name string) (chat.Platform, bool) { p, ok := chats[name]; return p, ok },
	}
	for _, o := range opts {
		o(&c)
	}
	r.commands = New(c)
	r.notifier = notifier.New(notifier.Config{
		Store: r.store, Platforms: chats, Templates: text, Signer: signer, Clock: r.clock, Log: log,
		Unverified: func(ops.Operation) bool { return false },
	})
	return r
}

func seeded() io.Reader { return rand.NewChaCha8([32]byte{42}) }

func (r *rig) incoming(kind chat.Kind, user string) chat.Incoming {
	r.keys++
	return chat.Incoming{
		Key: fmt.Sprintf("key-%d", r.keys), Kind: kind, Actor: ops.Actor{Platform: "fake", Workspace: "W1", UserID: user}, ActorName: user,
		From: ops.Conversation{Platform: "fake", Workspace: "W1", Channel: "C1"}, Reply: r,
	}
}

// OpenDialog implements [chat.Replier]. What the platforms would refuse is refused.
func (r *rig) OpenDialog(ctx context.Context, d chat.Dialog) error {
	r.dialog = &d
	return (&chattest.Replier{Err: r.late}).OpenDialog(ctx, d)
}

// Later implements [chat.Replier].
func (r *rig) Later(context.Context, chat.Message) error { return nil }

// typed sends a command.
func (r *rig) typed(user, text string) chat.Answer {
	r.t.Helper()
	in := r.incoming(chat.Command, user)
	in.Text = text
	return r.commands.Handle(r.t.Context(), in)
}

// says is typed for tests that look at the text alone.
func (r *rig) says(user, text string) string { r.t.Helper(); return read(r.typed(user, text).Message) }

// sends submits the dialog that was opened last.
func (r *rig) sends(user string, values map[string]string) chat.Answer {
	r.t.Helper()
	if r.dialog == nil {
		r.t.Fatal("no dialog was opened")
	}
	in := r.incoming(chat.Submit, user)
	in.Dialog, in.State, in.Values = r.dialog.Name, r.dialog.State, values
	return r.commands.Handle(r.t.Context(), in)
}

// press clicks a button on the card of an operation.
func (r *rig) press(user, id, verb string) chat.Answer {
	r.t.Helper()
	for _, s := range r.chat.Sent() {
		if s.Now().Key != id+".card.0" {
			continue
		}
		for _, b := range s.Now().Buttons {
			if b.Verb == verb {
				in := r.incoming(chat.Click, user)
				in.Button, in.Message, in.From = b.Token, s.Ref, s.To
				return r.commands.Handle(r.t.Context(), in)
			}
		}
	}
	r.t.Fatalf("no card of %s has a button %s", id, verb)
	return chat.Answer{}
}

// settle does everything that is due now.
func (r *rig) settle() {
	r.t.Helper()
	for range 100 {
		a, err := r.store.Drain(r.t.Context(), ops.JobAdvance, r.commands.Service.Advance)
		if err != nil {
			r.t.Fatal(err)
		}
		d, err := r.store.Drain(r.t.Context(), ops.JobDeliver, r.notifier.Deliver)
		if err != nil {
			r.t.Fatal(err)
		}
		if a+d == 0 {
			return
		}
	}
	r.t.Fatal("there is always more to do")
}

// all returns every operation, oldest first.
func (r *rig) all() []ops.Operation {
	r.t.Helper()
	var out []ops.Operation
	if err := r.store.View(r.t.Context(), func(rd ops.Reader) error {
		found, err := rd.Operations(r.t.Context(), ops.Filter{Limit: 500})
		for i := range found {
			out = append(out, found[len(found)-1-i])
		}
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// last returns the newest operation.
func (r *rig) last() ops.Operation {
	r.t.Helper()
	all := r.all()
	if len(all) == 0 {
		r.t.Fatal("there is no operation")
	}
	return all[len(all)-1]
}

// read is a message as a person reads it.
func read(m *chat.Message) string {
	if m == nil {
		return ""
	}
	var b strings.Builder
	for _, bl := range m.Blocks {
		for _, f := range bl.Fields {
			fmt.Fprintf(&b, "%s: %s\n", f.Label, f.Text)
		}
		if s := bl.Text.String(); s != "" {
			b.WriteString(s + "\n")
		}
		if bl.Code != "" {
			b.WriteString(bl.Code + "\n")
		}
	}
	return b.String()
}
