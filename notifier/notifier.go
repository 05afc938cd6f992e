// Package notifier keeps chat in step with the store. Each operation has one card, posted once and
// edited in place through all its runs, and at the end of a run short replies in the card's thread.
// What is owed stands in rows; Deliver compares them with what was sent and sends the difference.
// So a crash, a lost wake-up or a chat that was down for a day cost nothing but time, and of many
// changes only the newest state is sent.
package notifier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ocim/adapters/chat"
	"ocim/ops"
)

// Notifier sends what chat is owed. Safe for concurrent use on different operations; the queue
// keeps it from working twice on one.
type Notifier struct {
	store     ops.Store
	platforms map[string]chat.Platform
	templates *chat.Templates
	signer    *ops.Signer
	clock     ops.Clock
	budget    *Budget
	posts     gate
	log       *slog.Logger
}

// New returns a Notifier. Platforms are known by their names, as in [ops.Conversation].
func New(store ops.Store, platforms map[string]chat.Platform, t *chat.Templates, s *ops.Signer, c ops.Clock, b *Budget, log *slog.Logger) *Notifier {
	return &Notifier{store: store, platforms: platforms, templates: t, signer: s, clock: c, budget: b, log: log}
}

// repostAfter is how long a post without an answer is looked for before it is sent again: longer
// than a request can linger at either platform.
const repostAfter = 15 * time.Second

// laterError ends a delivery that has to wait.
type laterError struct{ at time.Time }

func (laterError) Error() string { return "later" }

// Deliver sends what is owed for one operation, in order: the card first, then its replies. It
// returns when it wants to be called again; zero means that only a change wakes it.
func (n *Notifier) Deliver(ctx context.Context, id string) (again time.Time, err error) {
	op, owed, err := n.load(ctx, id)
	if errors.Is(err, ops.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read what is owed for %s: %w", id, err)
	}
	var card ops.Delivery
	for _, d := range owed {
		switch {
		case d.Kind == ops.DeliverCard:
			card, err = n.card(ctx, op, d)
		case !d.Done:
			err = n.reply(ctx, op, card, d)
		}
		if later, ok := errors.AsType[laterError](err); ok {
			return later.at, nil
		}
		if errors.Is(err, ops.ErrStale) {
			return n.clock.Now(), nil
		}
		if err != nil {
			return time.Time{}, err
		}
	}
	// The elapsed time on a card that runs is kept roughly right; nothing else changes by itself.
	if s := op.State; s == ops.Running || s == ops.Blocked || s == ops.Canceling {
		return n.clock.Now().Add(time.Minute), nil
	}
	return time.Time{}, nil
}

func (n *Notifier) load(ctx context.Context, id string) (op ops.Operation, owed []ops.Delivery, err error) {
	err = n.store.View(ctx, func(r ops.Reader) error {
		if op, err = r.Operation(ctx, id); err != nil {
			return err
		}
		owed, err = r.Deliveries(ctx, id)
		return err
	})
	return op, owed, err
}

// card posts the card or brings it up to date.
func (n *Notifier) card(ctx context.Context, op ops.Operation, d ops.Delivery) (ops.Delivery, error) {
	if d.Done && d.Ref == "" {
		return d, nil // chat refused it for good
	}
	now := n.clock.Now()
	message := func(to ops.Conversation) (m chat.Message, hash string, err error) {
		v := NewView(op, now)
		if m, err = n.templates.Render("card", v); err != nil {
			return m, "", err
		}
		m.Key, m.Tone, m.Buttons = d.Key, tone(op.State), Buttons(op, to, n.signer)
		if v.Final {
			return m, digest(m), nil
		}
		v.Elapsed = 0 // the passing of time alone is not a change
		still, err := n.templates.Render("card", v)
		still.Key, still.Tone, still.Buttons = m.Key, m.Tone, m.Buttons
		return m, digest(still), err
	}
	if d.Ref == "" {
		return n.post(ctx, op, d, message)
	}
	m, hash, err := message(d.To)
	if err != nil {
		return d, err
	}
	if hash == d.Hash {
		if op.State.Final() || now.Sub(d.SentAt) < time.Minute || !n.budget.Spare(d.To, now) {
			return n.settled(ctx, op, d)
		}
	}
	if ok, at := n.budget.Edit(d.To, d.Ref, op.State.Final(), now); !ok {
		return d, laterError{at}
	}
	p, err := n.platform(d.To)
	if err != nil {
		return d, err
	}
	if err := p.Update(ctx, d.To, d.Ref, m); err != nil {
		return n.editFailed(ctx, d, err)
	}
	d.Hash, d.SentAt, d.Attempts, d.Done = hash, now, 0, op.State.Final()
	return n.put(ctx, d, "")
}

// settled marks a final card that shows everything, so that a sweep need not look at it.
func (n *Notifier) settled(ctx context.Context, op ops.Operation, d ops.Delivery) (ops.Delivery, error) {
	if d.Done == op.State.Final() {
		return d, nil
	}
	d.Done = op.State.Final()
	return n.put(ctx, d, "")
}

func (n *Notifier) editFailed(ctx context.Context, d ops.Delivery, cause error) (ops.Delivery, error) {
	n.log.Warn("edit card", "op", d.Operation, "err", cause)
	switch ops.CodeOf(cause) { //nolint:exhaustive // the others are tried again
	case ops.CodeNotFound:
		// Somebody deleted it, or it may not be edited any more: a new card takes its place.
		d.Ref, d.Hash, d.PostingAt = "", "", time.Time{}
		d.Attempts++
		if d.Attempts > 3 {
			d.Done = true
		}
		d, err := n.put(ctx, d, "")
		if err != nil || d.Done {
			return d, err
		}
		return d, laterError{n.clock.Now()}
	case ops.CodeInvalid:
		n.log.Error("chat refuses the card's content", "op", d.Operation, "err", cause)
		return d, nil
	}
	d.Attempts++
	d, err := n.put(ctx, d, "")
	if err != nil {
		return d, err
	}
	return d, laterError{n.backoff(cause, d.Attempts)}
}

// reply posts one message in the card's thread, once.
func (n *Notifier) reply(ctx context.Context, op ops.Operation, card, d ops.Delivery) error {
	if d.Ref != "" { // it stands, and was not marked as done
		d.Done = true
		_, err := n.put(ctx, d, "")
		return err
	}
	if card.Ref == "" && !card.Done {
		return laterError{n.clock.Now().Add(2 * time.Second)}
	}
	then := op
	if d.Snapshot != nil {
		then = *d.Snapshot
	}
	name := "end"
	if d.Kind == ops.DeliverLog {
		name = "log"
	}
	m, err := n.templates.Render(name, NewView(then, n.clock.Now()))
	if err != nil {
		return err
	}
	m.Key, m.Tone = d.Key, tone(then.State)
	m.Broadcast = d.Kind == ops.DeliverEnd && loud(then.State)
	if d.PostingAt.IsZero() {
		d.To = card.To
		if d.To.Thread == "" {
			d.To.Thread = card.Ref
		}
	}
	_, err = n.post(ctx, op, d, func(ops.Conversation) (chat.Message, string, error) { return m, digest(m), nil })
	return err
}

// loud reports whether the channel is told as well: only of what somebody has to act on.
func loud(s ops.State) bool { return s == ops.Failed || s == ops.Expired }

// post sends a message that does not stand yet. That it is about to be sent is on disk first, so
// that after a crash it is looked for before it is sent again.
func (n *Notifier) post(ctx context.Context, op ops.Operation, d ops.Delivery, message func(ops.Conversation) (chat.Message, string, error)) (ops.Delivery, error) {
	p, err := n.platform(d.To)
	if err != nil {
		return d, err
	}
	if !d.PostingAt.IsZero() {
		var done bool
		if d, done, err = n.find(ctx, p, d); done || err != nil {
			return d, err
		}
	}
	now := n.clock.Now()
	leave, ok := n.posts.enter(d.To)
	if !ok {
		return d, laterError{now.Add(gateWait)}
	}
	defer leave()
	if ok, at := n.budget.Post(d.To, d.Key, now); !ok {
		return d, laterError{at}
	}
	d.PostingAt = now
	if d, err = n.put(ctx, d, ""); err != nil {
		return d, err
	}
	m, hash, err := message(d.To)
	if err != nil {
		return d, err
	}
	ref, err := p.Post(ctx, d.To, m)
	if err != nil {
		return n.postFailed(ctx, p, op, d, err)
	}
	d.Ref, d.Hash, d.SentAt, d.PostingAt, d.Attempts = ref, hash, n.clock.Now(), time.Time{}, 0
	d.Done = d.Kind != ops.DeliverCard
	return n.put(ctx, d, op.ID)
}

// find looks for a message whose post had no answer. done means that nothing needs to be posted.
func (n *Notifier) find(ctx context.Context, p chat.Platform, d ops.Delivery) (_ ops.Delivery, done bool, err error) {
	ref, found, err := p.Find(ctx, d.To, d.Key)
	switch {
	case errors.Is(err, chat.ErrCannotFind):
		return d, false, nil // one duplicate for a lost answer is the price of not being allowed to look
	case err != nil:
		n.log.Warn("look for a message", "op", d.Operation, "err", err)
		return d, true, laterError{n.backoff(err, d.Attempts+1)}
	case found:
		d.Ref, d.Hash, d.PostingAt, d.Attempts = ref, "", time.Time{}, 0
		d.Done = d.Kind != ops.DeliverCard
		d, err = n.put(ctx, d, d.Operation)
		if err == nil && d.Kind == ops.DeliverCard {
			err = laterError{n.clock.Now()} // bring it up to date
		}
		return d, true, err
	case n.clock.Now().Before(d.PostingAt.Add(repostAfter)):
		return d, true, laterError{n.clock.Now().Add(2 * time.Second)}
	}
	return d, false, nil
}

func (n *Notifier) postFailed(ctx context.Context, p chat.Platform, op ops.Operation, d ops.Delivery, cause error) (ops.Delivery, error) {
	n.log.Warn("post message", "op", d.Operation, "kind", string(d.Kind), "err", cause)
	var e *ops.Error
	d.Attempts++
	switch {
	case !errors.As(cause, &e), e.Code == ops.CodeUnavailable && !e.NotSent:
		// It may stand: PostingAt stays, and the next try looks first.
	case e.Code == ops.CodeUnavailable:
		d.PostingAt = time.Time{}
	default:
		d.PostingAt = time.Time{}
		return n.elsewhere(ctx, p, op, d, cause)
	}
	d, err := n.put(ctx, d, op.ID)
	if err != nil {
		return d, err
	}
	return d, laterError{n.backoff(cause, d.Attempts)}
}

// elsewhere sends what the channel does not take to the person who asked, so that an operation
// never runs unseen.
func (n *Notifier) elsewhere(ctx context.Context, p chat.Platform, op ops.Operation, d ops.Delivery, cause error) (ops.Delivery, error) {
	direct, err := p.Direct(ctx, op.Request.Actor)
	if err != nil || direct.Channel == d.To.Channel || ops.CodeOf(cause) == ops.CodeInvalid {
		n.log.Error("message cannot be delivered", "op", d.Operation, "kind", string(d.Kind), "err", errors.Join(cause, err))
		d.Done = true
		return n.put(ctx, d, op.ID)
	}
	d.To = direct
	if d, err = n.put(ctx, d, ""); err != nil {
		return d, err
	}
	return d, laterError{n.clock.Now()}
}

func (n *Notifier) backoff(cause error, attempts int) time.Time {
	now := n.clock.Now()
	at := now.Add(min(time.Second<<min(max(attempts-1, 0), 6), time.Minute))
	var e *ops.Error
	if errors.As(cause, &e) && e.RetryAt.After(at) {
		return e.RetryAt
	}
	return at
}

// put stores the delivery; wake names an operation that waited for it.
func (n *Notifier) put(ctx context.Context, d ops.Delivery, wake string) (ops.Delivery, error) {
	err := n.store.Update(ctx, func(tx ops.Tx) error {
		if err := tx.PutDelivery(ctx, d); err != nil {
			return err
		}
		if wake != "" && d.Kind == ops.DeliverCard {
			return tx.Wake(ctx, ops.JobAdvance, wake, n.clock.Now())
		}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("record %s of %s: %w", d.Kind, d.Operation, err)
	}
	d.Version++
	return d, nil
}

func (n *Notifier) platform(c ops.Conversation) (chat.Platform, error) {
	if p, ok := n.platforms[c.Platform]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("platform %q is not configured any more", c.Platform)
}

// digest tells two contents of one message apart.
func digest(m chat.Message) string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // plain data always encodes
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
