package chaos

import (
	"slices"
	"strings"
	"testing"
)

// good is a history in which every promise was kept: one deploy that succeeded, one that failed,
// one canceled before GitLab knew of it, one refused, one whose answer was lost on the way.
func good() History {
	open := &Place{Name: "open", Findable: true}
	shut := &Place{Name: "shut"}
	message := func(p *Place, key, summary, token string) Message {
		return Message{Place: p, Key: key, Summary: summary, Body: summary + "\nWith: version=`" + token + "`\n"}
	}
	return History{
		Requests: []Request{
			{Token: "7.1", Instance: "a", Said: Accepted, Operation: "bbbbbb"},
			{Token: "7.2", Instance: "b", Said: Accepted, Operation: "cccccc"},
			{Token: "7.3", Instance: "c", Said: Accepted, Operation: "dddddd", Canceled: true},
			{Token: "7.4", Instance: "a", Said: Refused},
			{Token: "7.5", Instance: "d", Said: Unanswered},
			{Token: "7.6", Instance: "e", Said: Unanswered},
		},
		Pipelines: []Pipeline{
			{ID: 1, Token: "7.1", Instance: "a", Key: "k1", Number: "1", Status: "success"},
			{ID: 2, Token: "7.2", Instance: "b", Key: "k2", Number: "2", Status: "failed"},
			{ID: 3, Token: "7.5", Instance: "d", Key: "k3", Number: "3", Status: "success"},
		},
		Messages: []Message{
			message(open, "bbbbbb.card.0", "deploy of a on eu: succeeded (bbbbbb)", "7.1"),
			message(open, "bbbbbb.end.1", "deploy of a succeeded (bbbbbb)", ""),
			message(open, "cccccc.card.0", "deploy of b on eu: failed (cccccc)", "7.2"),
			message(open, "cccccc.end.1", "deploy of b failed (cccccc)", ""),
			message(open, "cccccc.log.1", "Log of deploy (cccccc)", ""),
			message(open, "dddddd.card.0", "deploy of c on eu: canceled (dddddd)", "7.3"),
			message(open, "dddddd.end.1", "deploy of c canceled (dddddd)", ""),
			message(shut, "ffffff.card.0", "deploy of d on eu: running, 1 of 2 jobs (ffffff)", "7.5"),
			message(shut, "ffffff.card.0", "deploy of d on eu: succeeded (ffffff)", "7.5"),
			message(shut, "ffffff.end.1", "deploy of d succeeded (ffffff)", ""),
		},
		Kills: 1,
	}
}

func TestCheckAcceptsWhatIsRight(t *testing.T) {
	t.Parallel()
	v := Check(good())
	for _, p := range v.Problems {
		t.Error(p)
	}
	if v.Accepted != 3 || v.Refused != 1 || v.Unanswered != 2 || v.Duplicates != 1 {
		t.Errorf("got %+v, want 3 accepted, 1 refused, 2 unanswered, 1 duplicate", v)
	}
}

// A checker proves something only if it complains. Each case breaks one promise.
func TestCheckComplains(t *testing.T) {
	t.Parallel()
	drop := func(key string) func(*History) {
		return func(h *History) {
			h.Messages = slices.DeleteFunc(h.Messages, func(m Message) bool { return m.Key == key })
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(*History)
		want  string
	}{
		{"doubled pipeline", func(h *History) {
			p := h.Pipelines[0]
			p.ID, p.Number = 9, "9"
			h.Pipelines = append(h.Pipelines, p)
		}, "request 7.1 has pipelines [1 9], want one"},
		{"doubled pipeline under a new key", func(h *History) {
			h.Pipelines = append(h.Pipelines, Pipeline{ID: 9, Token: "7.1", Instance: "a", Key: "k9", Number: "9", Status: "success"})
		}, "request 7.1 has pipelines [1 9], want one"},
		{"one key for two requests", func(h *History) { h.Pipelines[1].Key = "k1" }, "pipelines [1 2] carry the same key k1"},
		{"one number for two requests", func(h *History) { h.Pipelines[1].Number = "1" }, "carry the same request number 1"},
		{"no key", func(h *History) { h.Pipelines[1].Key = "" }, "pipelines [2] carry no key"},
		{"unanswered request with two pipelines", func(h *History) {
			h.Pipelines = append(h.Pipelines, Pipeline{ID: 9, Token: "7.5", Instance: "d", Key: "k9", Number: "9", Status: "success"})
		}, "request 7.5 has pipelines [3 9], want one"},
		{"lost pipeline", func(h *History) { h.Pipelines = h.Pipelines[1:] }, "request 7.1 (operation bbbbbb) was accepted, and GitLab has no pipeline"},
		{"lost without a trace", func(h *History) {
			h.Pipelines = h.Pipelines[1:]
			drop("bbbbbb.card.0")(h)
		}, "request 7.1 (operation bbbbbb) has no card"},
		{"canceled by nobody", func(h *History) { h.Requests[2].Canceled = false }, "request 7.3 (operation dddddd) was accepted, and GitLab has no pipeline"},
		{"refused and started", func(h *History) { h.Requests[4].Said = Refused }, "request 7.5 was refused, and GitLab has pipelines [3]"},
		{"other instance in GitLab", func(h *History) { h.Pipelines[0].Instance = "b" }, "pipeline 1 of request 7.1 is for instance b, want a"},
		{"pipeline of nobody", func(h *History) { h.Pipelines[0].Token = "7.9" }, "pipeline 1 belongs to no request"},
		{"pipeline left running", func(h *History) { h.Pipelines[2].Status = "running" }, "pipeline 3 was left running"},
		{"card left unfinished", func(h *History) {
			h.Messages[0].Summary = "deploy of a on eu: running, 1 of 2 jobs (bbbbbb)"
		}, `the card of bbbbbb (request 7.1) was left "running"`},
		{"card left before the start", func(h *History) {
			h.Messages[0].Summary = "deploy of a on eu: requested (bbbbbb)"
		}, `the card of bbbbbb (request 7.1) was left "requested"`},
		{"wrong card", func(h *History) {
			h.Messages[0].Summary = "deploy of a on eu: failed (bbbbbb)"
		}, "the card of bbbbbb says failed, and pipeline 1 is success"},
		{"card that hides a pipeline", func(h *History) {
			h.Messages[0].Summary = "deploy of a on eu: refused (bbbbbb)"
		}, "the card of bbbbbb says refused, and pipeline 1 is success"},
		{"card of a pipeline that is not", func(h *History) {
			h.Messages[5].Summary = "deploy of c on eu: succeeded (dddddd)"
		}, "the card of dddddd says succeeded, and GitLab has no pipeline"},
		{"card of another instance", func(h *History) {
			h.Messages[0].Summary = "deploy of b on eu: succeeded (bbbbbb)"
		}, "the card of bbbbbb shows instance b, want a"},
		{"card of another operation", func(h *History) { h.Requests[0].Operation = "zzzzzz" }, "was answered as operation zzzzzz, its card says bbbbbb"},
		{"card under a foreign key", func(h *History) { h.Messages[0].Key = "cccccc.card.0" }, "card cccccc.card.0 shows operation bbbbbb"},
		{"card that nobody can read", func(h *History) { h.Messages[0].Summary = "hello" }, "card bbbbbb.card.0 cannot be read"},
		{"card of nobody", func(h *History) {
			m := h.Messages[0]
			m.Key, m.Summary, m.Body = "zzzzzz.card.0", "deploy of a on eu: succeeded (zzzzzz)", "version=7.9"
			h.Messages = append(h.Messages, m)
		}, "a card belongs to no request"},
		{"two operations of one request", func(h *History) {
			m := h.Messages[0]
			m.Key, m.Summary = "zzzzzz.card.0", "deploy of a on eu: succeeded (zzzzzz)"
			h.Messages = append(h.Messages, m)
		}, "request 7.1 became operations [bbbbbb zzzzzz]"},
		{"end not told", drop("bbbbbb.end.1"), "the end of bbbbbb was not told"},
		{"log not told", drop("cccccc.log.1"), "cccccc failed, and its log is not in its thread"},
		{"message of nobody", func(h *History) { h.Messages[1].Key = "" }, "a message without a key in open"},
		{"too many duplicates", func(h *History) {
			h.Messages = append(h.Messages, h.Messages[7])
		}, "2 duplicates of messages, want at most 1"},
		{"duplicate without a kill", func(h *History) { h.Kills = 0 }, "1 duplicates of messages, want at most 0"},
		{"duplicate where the bot can look", func(h *History) {
			h.Messages = append(h.Messages, h.Messages[0])
		}, "2 messages bbbbbb.card.0 stand in open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := good()
			tt.spoil(&h)
			v := Check(h)
			if !slices.ContainsFunc(v.Problems, func(p string) bool { return strings.Contains(p, tt.want) }) {
				t.Errorf("got problems %q, want one with %q", v.Problems, tt.want)
			}
		})
	}
}

func TestCheckCountsLostAnswers(t *testing.T) {
	t.Parallel()
	h := good()
	h.Kills = 0
	for i := range h.Messages {
		h.Messages[i].Place.Lost = 1
	}
	if v := Check(h); len(v.Problems) > 0 {
		t.Errorf("got %q, want no problem: chat took a message without telling", v.Problems)
	}
}
