package mattermost

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattermost/mattermost/server/public/model"

	"ocim/adapters/chat"
	"ocim/ops"
)

const (
	// purposeDialog seals the state of a dialog around the handler's own state.
	purposeDialog  ops.Purpose = "mattermost-dialog"
	dialogLife                 = time.Hour
	maxState                   = 2000
	maxOptions                 = 500
	maxSuggestions             = 100
	maxQuery                   = 200
)

// dialogState is everything that must be true of a dialog when it comes back: a user can send any
// values to any address without ever having seen a dialog.
type dialogState struct {
	Server  string        `json:"w"`
	User    string        `json:"u"` // who opened it, the only one who may send it
	Channel string        `json:"c"`
	Thread  string        `json:"r,omitempty"`
	Dialog  string        `json:"d"`
	State   string        `json:"s,omitempty"` // the handler's
	Fields  []dialogField `json:"f"`
	Expires int64         `json:"x"` // Unix time
	Nonce   string        `json:"n"`
}

type dialogField struct {
	Name string `json:"n"`
	Max  int    `json:"m"`
}

// dialog renders d and seals its state.
func (a *Adapter) dialog(s *server, in chat.Incoming, d chat.Dialog) (model.Dialog, error) {
	// A dialog without fields is a question (Mattermost: "simple confirmation", interactive dialogs).
	if len(d.State) > maxState || len(d.Fields) == 0 && d.Intro == "" {
		return model.Dialog{}, &ops.Error{Code: ops.CodeInvalid, Reason: ops.ReasonInternal, Msg: "The dialog has too long a state or no content."}
	}
	state := dialogState{
		Server: s.Name, User: in.Actor.UserID, Channel: in.From.Channel, Thread: in.From.Thread,
		Dialog: d.Name, State: d.State, Expires: a.clock.Now().Add(dialogLife).Unix(), Nonce: rand.Text(),
	}
	var intro strings.Builder
	for i, line := range strings.Split(d.Intro, "\n") {
		if i > 0 {
			intro.WriteString("\n")
		}
		escape(&intro, line, 0, 0)
	}
	out := model.Dialog{
		CallbackId: d.Name, Title: cutBytes(d.Title, model.DialogTitleMaxLength),
		IntroductionText: intro.String(), SubmitLabel: cutBytes(d.Submit, model.DialogTitleMaxLength),
	}
	for _, f := range d.Fields {
		e := s.element(f)
		out.Elements = append(out.Elements, e)
		state.Fields = append(state.Fields, dialogField{f.Name, e.MaxLength})
	}
	text, err := json.Marshal(state)
	if err != nil {
		return model.Dialog{}, &ops.Error{Code: ops.CodeInternal, Reason: ops.ReasonInternal, Msg: "The dialog could not be made.", Err: err}
	}
	out.State = a.signer.Seal(purposeDialog, text)
	return out, nil
}

func (s *server) element(f chat.Field) model.DialogElement {
	e := model.DialogElement{
		DisplayName: cutBytes(f.Label, model.DialogElementDisplayNameMaxLength), Name: f.Name,
		Type: "text", Default: f.Default, HelpText: cutBytes(f.Hint, model.DialogElementHelpTextMaxLength),
		Optional: f.Optional, MaxLength: model.DialogElementTextMaxLength,
	}
	switch f.Kind {
	case chat.FieldLines:
		e.Type, e.MaxLength = "textarea", model.DialogElementTextareaMaxLength
	case chat.FieldChoice, chat.FieldSearch:
		e.Type, e.MaxLength = "select", model.DialogElementSelectMaxLength
		if f.Kind == chat.FieldSearch && s.dynamic.Load() {
			e.DataSource, e.DataSourceURL = "dynamic", s.callback(dialogsRoute)
			break
		}
		for _, o := range f.Options[:min(len(f.Options), maxOptions)] {
			e.Options = append(e.Options, &model.PostActionOptions{Text: chat.Clean(o.Label), Value: o.Value})
		}
	case chat.FieldText:
	}
	if f.MaxLen > 0 {
		e.MaxLength = min(f.MaxLen, e.MaxLength)
	}
	if e.Type != "select" {
		e.Default = cutBytes(e.Default, e.MaxLength)
	}
	return e
}

// cutBytes shortens s to at most n bytes: the limits of dialogs count bytes.
func cutBytes(s string, n int) string {
	s = chat.Clean(s)
	if len(s) <= n {
		return s
	}
	const dots = "…"
	cut := max(0, n-len(dots))
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + dots
}

// submission is a dialog's values as the server sends them on.
type submission struct {
	Type      string
	UserID    string
	Cancelled bool
	state     string
	Values    map[string]any
}

func decodeSubmission(body []byte) (submission, error) {
	var req model.SubmitDialogRequest
	if err := decodeJSON(body, &req); err != nil {
		return submission{}, err
	}
	if !validID(req.UserId) {
		return submission{}, errors.New("user id is missing or malformed")
	}
	return submission{Type: req.Type, UserID: req.UserId, Cancelled: req.Cancelled, state: req.State, Values: req.Submission}, nil
}

func (a *Adapter) serveDialog(r *http.Request, s *server, body []byte) reply {
	sub, err := decodeSubmission(body)
	if err != nil {
		s.log.Warn("dialog refused", "why", err)
		return reply{status: http.StatusBadRequest}
	}
	lookup := sub.Type == "dialog_lookup"
	if sub.Cancelled || sub.Type != "dialog_submission" && !lookup {
		return reply{body: struct{}{}}
	}
	st, err := a.openDialog(s, sub)
	if err != nil {
		s.log.Warn("dialog refused", "why", err, "user", sub.UserID)
		if lookup {
			return lookupReply(nil)
		}
		return dialogError("This dialog is too old or not one of this bot's, so nothing was done. Close it and start again.")
	}
	in := chat.Incoming{
		Kind:    chat.Submit,
		Actor:   ops.Actor{Platform: Platform, Workspace: s.Name, UserID: sub.UserID},
		From:    ops.Conversation{Platform: Platform, Workspace: s.Name, Channel: st.Channel, Thread: st.Thread},
		Dialog:  st.Dialog,
		State:   st.State,
		Trigger: "/" + s.Command,
	}
	if lookup {
		return a.suggest(r, s, in, st, sub)
	}
	values, wrong := fieldValues(st.Fields, sub.Values)
	if len(wrong) > 0 {
		return reply{body: &model.SubmitDialogResponse{Errors: wrong}}
	}
	in.Values = values
	in.ActorName = s.usernames(r.Context(), []string{sub.UserID})[sub.UserID] // a submission brings the id alone
	in.Key = Platform + ":" + s.Name + ":dialog:" + st.Nonce + ":" + valuesDigest(values)
	in.Reply = a.replier(s, in, "", "")
	return a.submitAnswer(r.Context(), s, in, a.ack.Answer(r.Context(), in))
}

// openDialog returns the state of a dialog that this person opened.
func (a *Adapter) openDialog(s *server, sub submission) (dialogState, error) {
	text, err := a.signer.Open(purposeDialog, sub.state)
	if err != nil {
		return dialogState{}, err
	}
	var st dialogState
	if err := json.Unmarshal(text, &st); err != nil {
		return dialogState{}, errors.New("malformed state")
	}
	switch {
	case st.Server != s.Name:
		return dialogState{}, errors.New("opened on another server")
	case st.User != sub.UserID:
		return dialogState{}, errors.New("opened by another person")
	case a.clock.Now().Unix() >= st.Expires:
		return dialogState{}, errors.New("expired")
	}
	return st, nil
}

// fieldValues takes the values of the dialog's own fields. What else was sent is ignored; the
// server checks nothing of it.
func fieldValues(fields []dialogField, sent map[string]any) (values, wrong map[string]string) {
	values, wrong = map[string]string{}, map[string]string{}
	for _, f := range fields {
		switch v := sent[f.Name].(type) {
		case nil:
		case string:
			switch {
			case !utf8.ValidString(v):
				wrong[f.Name] = "This is not text."
			case utf8.RuneCountInString(v) > f.Max:
				wrong[f.Name] = "This is too long: at most " + strconv.Itoa(f.Max) + " characters."
			default:
				values[f.Name] = v
			}
		case bool:
			values[f.Name] = strconv.FormatBool(v)
		case json.Number:
			values[f.Name] = v.String()
			if len(v) > f.Max {
				wrong[f.Name] = "This is too long."
			}
		default:
			wrong[f.Name] = "This is not text."
		}
	}
	return values, wrong
}

// valuesDigest tells a dialog that is sent again with corrected values from one that is delivered
// twice.
func valuesDigest(values map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		h.Write([]byte(strconv.Itoa(len(k)) + ":" + k + strconv.Itoa(len(values[k])) + ":" + values[k]))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// submitAnswer closes the dialog unless something is wrong. What is wrong stands in the dialog, so
// that nothing has to be typed again. What was accepted is not worth a direct message, since the
// card in the channel shows it; a warning is, and that nothing is certain yet.
func (a *Adapter) submitAnswer(ctx context.Context, s *server, in chat.Incoming, ans chat.Answer) reply {
	if len(ans.Errors) > 0 {
		out := &model.SubmitDialogResponse{Errors: map[string]string{}}
		for field, text := range ans.Errors {
			text = chat.Cut(chat.Clean(text), 300)
			if field == "" {
				out.Error = text
				continue
			}
			out.Errors[field] = text
		}
		return reply{body: out}
	}
	if ans.Message == nil {
		return reply{body: struct{}{}}
	}
	if ans.Message.Tone == chat.ToneBad {
		return dialogError(plainMessage(*ans.Message))
	}
	// The dialog closes when it has an answer, so the message is sent beside it.
	ctx = context.WithoutCancel(ctx)
	a.beside.Go(func() {
		defer a.contain(s)
		if err := a.private(ctx, s, in, *ans.Message, ans.Pending || ans.Message.Tone == chat.ToneWarn); err != nil {
			s.log.Warn("answer to a dialog not shown", "err", err)
		}
	})
	return reply{body: struct{}{}}
}

// plainMessage is a message without any markup: dialogs show errors as plain text.
func plainMessage(m chat.Message) string {
	var lines []string
	for _, b := range m.Blocks {
		switch b.Kind {
		case chat.Heading, chat.Paragraph, chat.Context:
			lines = append(lines, chat.Clean(b.Text.String()))
		case chat.Fields:
			for _, f := range b.Fields {
				lines = append(lines, chat.Clean(f.Label+": "+f.Text.String()))
			}
		case chat.Code, chat.Divider:
		}
	}
	if len(lines) == 0 {
		lines = []string{chat.Clean(m.Summary)}
	}
	return chat.Cut(strings.Join(lines, "\n"), 1000)
}

func dialogError(text string) reply { return reply{body: &model.SubmitDialogResponse{Error: text}} }

// suggest answers a searching field while somebody types (server 11.0 and later).
func (a *Adapter) suggest(r *http.Request, s *server, in chat.Incoming, st dialogState, sub submission) reply {
	field, _ := sub.Values["selected_field"].(string)
	query, _ := sub.Values["query"].(string)
	if !slices.ContainsFunc(st.Fields, func(f dialogField) bool { return f.Name == field }) || utf8.RuneCountInString(query) > maxQuery {
		s.log.Warn("search in a dialog refused", "why", "no such field, or too long", "user", sub.UserID)
		return lookupReply(nil)
	}
	in.Kind, in.Field, in.Text = chat.Suggest, field, query
	return lookupReply(a.ack.Answer(r.Context(), in).Options)
}

func lookupReply(options []chat.Option) reply {
	items := []model.DialogSelectOption{} // null would not do
	for _, o := range options[:min(len(options), maxSuggestions)] {
		items = append(items, model.DialogSelectOption{Text: chat.Clean(o.Label), Value: o.Value})
	}
	return reply{body: &model.LookupDialogResponse{Items: items}}
}
