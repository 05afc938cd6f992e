package ops

import "slices"

// model is a second statement of the rules of transition, written from the table of states and
// not from the code: what a person would say an operation does. It knows states, runs, whether a
// POST is outstanding, the wish to cancel, and the last word that GitLab gave for each pipeline.
type model struct {
	state       State
	run         int
	posts       int // POSTs begun in this run
	outstanding bool
	wish        bool
	lost        bool     // a request with this key had no answer
	unknown     bool     // it ended without GitLab saying so
	away        bool     // a second Cancel has waited long enough for a GitLab that does not answer
	words       []string // the root's first
}

// next returns what becomes of m, and false if the input does not fit.
func (m model) next(in Input) (model, bool) {
	switch in := in.(type) {
	case Unreachable:
		m.state = Queued
	case Refuse:
		m.state = Refused
	case Expire:
		m.state = Expired
	case Intend:
		m.state = Starting
	case Posting:
		m.outstanding = true
		m.posts++
	case NotSent:
		m.outstanding = false
		m.lost = m.lost || in.Lost
		if m.wish {
			m.state = Canceled
		}
	case GitLabRefused:
		m.state = Failed
	case Created:
		if m.final() { // it has turned up after all
			next := model{state: Running, run: m.run + 1, words: []string{in.Pipeline.Status}, lost: m.lost, wish: m.wish}
			if m.wish {
				next.state = Canceling
			}
			return next, true
		}
		m.words, m.state = []string{in.Pipeline.Status}, Running
		if m.wish {
			m.state = Canceling
		}
	case Gone:
		if !m.final() {
			m.state = Failed
		}
	case Abandoned:
		m.state, m.unknown = Failed, true
	case CancelAsked:
		m.wish = true
		switch {
		case m.away:
			m.unknown = true
			m.state = Failed
		case m.state == Running || m.state == Blocked:
			m.state = Canceling
		case !m.outstanding:
			m.state = Canceled
		}
	case RetryAsked:
		m = model{state: Requested, run: m.run + 1, lost: m.unknown || m.doubt()}
	}
	if m.state != Starting {
		m.outstanding = false
	}
	return m, true
}

// doubt says whether there may be a pipeline that nobody has seen.
func (m model) doubt() bool { return len(m.words) == 0 && (m.lost || m.unknown) }

// fits says which inputs a state takes.
func (m model) fits(in Input) bool {
	early := m.state == Requested || m.state == Queued
	going := m.state == Running || m.state == Blocked || m.state == Canceling
	switch in.(type) {
	case Unreachable, Refuse, Expire, Intend:
		return early
	case Posting:
		return m.state == Starting && !m.outstanding
	case Created:
		return m.state == Starting || m.final() && m.doubt()
	case NotSent, GitLabRefused:
		return m.state == Starting
	case Seen:
		return going || m.state == Succeeded || m.state == Failed || m.state == Canceled
	case Gone:
		return !early
	case Abandoned:
		return going
	case CancelAsked:
		return m.away || early || m.state == Running || m.state == Blocked || m.state == Starting && !m.wish
	case RetryAsked:
		return m.final() && m.state != Succeeded
	}
	return true // a look that failed changes no state and fits everywhere
}

func (m model) final() bool {
	switch m.state { //nolint:exhaustive // the model has no others
	case Succeeded, Failed, Canceled, Refused, Expired:
		return true
	}
	return false
}

// saw is next for a look: words are what GitLab says now, or said once if the look is stale.
func (m model) saw(words []string, stale bool) model {
	before := m.words
	if !stale {
		m.words = words
	}
	active, waits, failed, canceled := m.has("active"), m.has("waits"), m.has("failed"), m.has("canceled")
	switch {
	case m.final():
		for i := range min(len(before), len(m.words)) {
			was, is := meaning(before[i]), meaning(m.words[i])
			again := was != "active" && was != "waits" && is != "waits" && m.words[i] != before[i]
			played := was == "waits" && is != "waits"
			if again || played || m.unknown && i == 0 && !stale {
				return m.again()
			}
		}
		for i := max(1, len(before)); i < len(m.words); i++ {
			if kind := meaning(m.words[i]); kind == "active" || kind == "waits" || kind == "failed" {
				return m.again()
			}
		}
		m.words = before
	case waits && !active && m.state == Canceling && !slices.Contains(m.words, "scheduled"):
		m.state = Canceled
	case active && m.state == Canceling, waits && m.state == Canceling:
	case active:
		m.state = Running
	case waits:
		m.state = Blocked
	case canceled && (m.wish || !failed):
		m.state = Canceled
	case failed, m.words[0] == "skipped":
		m.state = Failed
	default:
		m.state = Succeeded
	}
	return m
}

// again is the next run, which GitLab has begun by itself. A wish that could not be met is kept.
func (m model) again() model {
	next := model{state: Running, run: m.run + 1, words: m.words, lost: m.lost}
	if m.unknown && m.wish {
		next.state, next.wish = Canceling, true
	}
	return next
}

func (m model) has(what string) bool {
	for _, w := range m.words {
		if meaning(w) == what {
			return true
		}
	}
	return false
}

func meaning(word string) string {
	switch word {
	case "success", "failed", "canceled", "skipped":
		return word
	case "manual", "scheduled":
		return "waits"
	}
	return "active" // what is not known has not ended
}
