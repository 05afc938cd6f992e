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

// Config is what a Notifier needs; every field is required.
type Config struct {
	Store     ops.Store
	Platforms map[string]chat.Platform // by their names, as in [ops.Conversation]
	Templates *chat.Templates
	Signer    *ops.Signer
	Clock     ops.Clock
	Log       *slog.Logger
	// Unverified reports whether nobody has confirmed yet that an operation's row of the operation
	// table works with a real project. It makes no call.
	Unverified func(ops.Operation) bool
}

// Notifier sends what chat is owed. Safe for concurrent use on different operations; the queue
// keeps it from working twice on one.
type Notifier struct {
	Config
	budget *Budget
	posts  gate
}

// New returns a Notifier that spends what the platforms allow.
func New(c Config) *Notifier {
	return &Notifier{Config: c, budget: NewBudget(func(platform string) chat.Rate {
		if p, ok := c.Platforms[platform]; ok {
			return p.Rate()
		}
		return chat.Rate{}
	})}
}

// repostAfter is how long a post without an answer is looked for before it is sent again: longer
// than a request can linger at either platform.
const repostAfter = 15 * time.Second

// laterError ends a delivery that has to wait.
type laterError struct{ at time.Time }

func (laterError) Error() string { return "later" }

// Deliver sends what is owed for one operation, in order: the card first, then its replies. A card
// that stands but cannot be edited now does not hold up the replies. It returns when it wants to be
// called again; zero means that only a change wakes it.
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
		if wait, ok := errors.AsType[laterError](err); ok {
			again = sooner(again, wait.at)
			if d.Kind == ops.DeliverCard && card.Ref != "" {
				continue
			}
			return again, nil
		}
		if errors.Is(err, ops.ErrStale) {
			return n.Clock.Now(), nil
		}
		if err != nil {
			return time.Time{}, err
		}
	}
	// The elapsed time on a card that runs is kept roughly right; nothing else changes by itself.
	if s := op.State; s == ops.Running || s == ops.Blocked || s == ops.Canceling {
		again = sooner(again, n.Clock.Now().Add(time.Minute))
	}
	return again, nil
}

// sooner is the earlier of two times, of which the first may be zero.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (n *Notifier) load(ctx context.Context, id string) (op ops.Operation, owed []ops.Delivery, err error) {
	err = n.Store.View(ctx, func(r ops.Reader) error {
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
	now := n.Clock.Now()
	message := func(to ops.Conversation) (m chat.Message, hash string, err error) {
		v := n.view(op, now)
		if m, err = n.Templates.Render("card", v); err != nil {
			return m, "", err
		}
		m.Key, m.Tone, m.Buttons = d.Key, tone(op.State), Buttons(op, to, n.Signer)
		if v.Final {
			return m, digest(m), nil
		}
		v.Elapsed = 0 // the passing of time alone is not a change
		still, err := n.Templates.Render("card", v)
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
	err = p.Update(ctx, d.To, d.Ref, m)
	d.Hash, d.SentAt, d.Done = hash, now, op.State.Final()
	if err != nil {
		return n.editFailed(ctx, p, op, d, err)
	}
	d.Attempts = 0
	return n.put(ctx, d, "")
}

// view is what the templates see of op, with what the operation itself does not know.
func (n *Notifier) view(op ops.Operation, now time.Time) View {
	v := NewView(op, now)
	v.Unverified = n.Unverified(op)
	return v
}

// settled marks a final card that shows everything, so that a sweep need not look at it.
func (n *Notifier) settled(ctx context.Context, op ops.Operation, d ops.Delivery) (ops.Delivery, error) {
	if d.Done == op.State.Final() {
		return d, nil
	}
	d.Done = op.State.Final()
	return n.put(ctx, d, "")
}

// editFailed decides what becomes of a card that could not be edited. d is as if it had been.
func (n *Notifier) editFailed(ctx context.Context, p chat.Platform, op ops.Operation, d ops.Delivery, cause error) (ops.Delivery, error) {
	n.Log.Warn("edit card", "op", d.Operation, "err", cause)
	d.Attempts++
	switch fateOf(cause) {
	case refusedForGood:
		// Another state may make a content that chat takes.
		n.Log.Error("chat refuses the card's content", "op", d.Operation, "err", cause)
		return n.put(ctx, d, "")
	case refusedHere:
		direct, err := p.Direct(ctx, op.Request.Actor)
		switch {
		case err != nil && fateOf(err) == tryLater:
			cause = err
		case err != nil || direct.Channel == d.To.Channel:
			n.Log.Error("card cannot be edited any more", "op", d.Operation, "err", errors.Join(cause, err))
			return n.put(ctx, d, "")
		default:
			return n.anew(ctx, d, direct)
		}
	case gone:
		if d.Attempts <= 3 {
			return n.anew(ctx, d, d.To)
		}
		d.Ref = ""
		return n.end(ctx, d, cause)
	case tryLater:
	}
	d.Hash, d.Done = "", false
	d, err := n.put(ctx, d, "")
	if err != nil {
		return d, err
	}
	at := backoff(n.Clock.Now(), cause, d.Attempts)
	if pauses(cause) {
		n.budget.PauseEdits(d.To, at)
	}
	return d, laterError{at}
}

// anew gives up the message that stands and makes a new card.
func (n *Notifier) anew(ctx context.Context, d ops.Delivery, to ops.Conversation) (ops.Delivery, error) {
	d.To, d.Ref, d.Hash, d.PostingAt, d.Done = to, "", "", time.Time{}, false
	d, err := n.put(ctx, d, "")
	if err != nil {
		return d, err
	}
	return d, laterError{n.Clock.Now()}
}

// reply posts one message in the card's thread, once.
func (n *Notifier) reply(ctx context.Context, op ops.Operation, card, d ops.Delivery) error {
	if d.Ref != "" { // it stands, and was not marked as done
		d.Done = true
		_, err := n.put(ctx, d, "")
		return err
	}
	if card.Ref == "" && !card.Done {
		return laterError{n.Clock.Now().Add(2 * time.Second)}
	}
	then := op
	if d.Snapshot != nil {
		then = *d.Snapshot
	}
	name := "end"
	if d.Kind == ops.DeliverLog {
		name = "log"
	}
	m, err := n.Templates.Render(name, n.view(then, n.Clock.Now()))
	if err != nil {
		return err
	}
	m.Key, m.Tone = d.Key, tone(then.State)
	m.Broadcast = d.Kind == ops.DeliverEnd && loud(then.State)
	if d.Attempts == 0 && d.PostingAt.IsZero() { // later it may have been sent elsewhere
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
		if d, done, err = n.find(ctx, p, op, d); done || err != nil {
			return d, err
		}
	}
	now := n.Clock.Now()
	leave, wait, ok := n.posts.enter(d.To)
	if !ok {
		return d, laterError{now.Add(wait)}
	}
	defer leave()
	if ok, at := n.budget.Post(d.To, d.Key, d.Kind == ops.DeliverCard, now); !ok {
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
	d.Ref, d.Hash, d.SentAt, d.PostingAt, d.Attempts = ref, hash, n.Clock.Now(), time.Time{}, 0
	d.Done = d.Kind != ops.DeliverCard
	return n.put(ctx, d, op.ID)
}

// find looks for a message whose post had no answer. done means that nothing needs to be posted.
func (n *Notifier) find(ctx context.Context, p chat.Platform, op ops.Operation, d ops.Delivery) (_ ops.Delivery, done bool, err error) {
	ref, found, err := p.Find(ctx, d.To, d.Key)
	switch {
	case errors.Is(err, chat.ErrCannotFind):
		return d, false, nil // one duplicate for a lost answer is the price of not being allowed to look
	case err != nil:
		n.Log.Warn("look for a message", "op", d.Operation, "err", err)
		d.Attempts++
		if fateOf(err) != tryLater {
			d, err = n.refused(ctx, p, op, d, err) // if it stands, then where the bot cannot reach it
			return d, true, err
		}
		d, err = n.wait(ctx, op, d, err)
		return d, true, err
	case found:
		d.Ref, d.Hash, d.PostingAt, d.Attempts = ref, "", time.Time{}, 0
		d.Done = d.Kind != ops.DeliverCard
		d, err = n.put(ctx, d, d.Operation)
		if err == nil && d.Kind == ops.DeliverCard {
			err = laterError{n.Clock.Now()} // bring it up to date
		}
		return d, true, err
	case n.Clock.Now().Before(d.PostingAt.Add(repostAfter)):
		return d, true, laterError{n.Clock.Now().Add(2 * time.Second)}
	}
	return d, false, nil
}

func (n *Notifier) postFailed(ctx context.Context, p chat.Platform, op ops.Operation, d ops.Delivery, cause error) (ops.Delivery, error) {
	n.Log.Warn("post message", "op", d.Operation, "kind", string(d.Kind), "err", cause)
	d.Attempts++
	if fateOf(cause) != tryLater {
		return n.refused(ctx, p, op, d, cause)
	}
	if surelyNotSent(cause) {
		d.PostingAt = time.Time{}
	} // else it may stand: the next try looks first
	return n.wait(ctx, op, d, cause)
}

// wait records a failed try and says when the next one is due.
func (n *Notifier) wait(ctx context.Context, op ops.Operation, d ops.Delivery, cause error) (ops.Delivery, error) {
	d, err := n.put(ctx, d, op.ID)
	if err != nil {
		return d, err
	}
	at := backoff(n.Clock.Now(), cause, d.Attempts)
	if pauses(cause) {
		n.budget.PausePosts(d.To, at)
	}
	return d, laterError{at}
}

// refused finds another place for what chat does not take where it should stand: first the channel
// for what was meant for a thread that is gone, then the person who asked, so that an operation
// never runs unseen. Each step leads away from the last one, so it comes to an end.
func (n *Notifier) refused(ctx context.Context, p chat.Platform, op ops.Operation, d ops.Delivery, cause error) (ops.Delivery, error) {
	d.PostingAt = time.Time{}
	if fateOf(cause) == refusedForGood {
		return n.end(ctx, d, cause)
	}
	if fateOf(cause) == gone && d.To.Thread != "" {
		d.To.Thread = ""
	} else {
		direct, err := p.Direct(ctx, op.Request.Actor)
		switch {
		case err != nil && fateOf(err) == tryLater:
			return n.wait(ctx, op, d, err)
		case err != nil || direct.Channel == d.To.Channel:
			return n.end(ctx, d, errors.Join(cause, err))
		}
		d.To = direct
	}
	d, err := n.put(ctx, d, "")
	if err != nil {
		return d, err
	}
	return d, laterError{n.Clock.Now()}
}

// end gives a message up.
func (n *Notifier) end(ctx context.Context, d ops.Delivery, cause error) (ops.Delivery, error) {
	n.Log.Error("message cannot be delivered", "op", d.Operation, "kind", string(d.Kind), "err", cause)
	d.Done = true
	return n.put(ctx, d, d.Operation)
}

// put stores the delivery; wake names an operation that waited for it.
func (n *Notifier) put(ctx context.Context, d ops.Delivery, wake string) (ops.Delivery, error) {
	err := n.Store.Update(ctx, func(tx ops.Tx) error {
		if err := tx.PutDelivery(ctx, d); err != nil {
			return err
		}
		if wake != "" && d.Kind == ops.DeliverCard {
			return tx.Wake(ctx, ops.JobAdvance, wake, n.Clock.Now())
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
	if p, ok := n.Platforms[c.Platform]; ok {
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
