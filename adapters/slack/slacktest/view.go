package slacktest

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// View is a modal or a Home tab on someone's screen.
type View struct {
	ID, User, Type               string
	CallbackID, ExternalID, Hash string
	RootID, PreviousID           string
	PrivateMetadata              string
	NotifyOnClose, ClearOnClose  bool
	Title, Submit, Close         string
	Blocks                       []Object
	Revision                     int // 1 when opened, one more for each update
	Opened, Updated              time.Time
	values                       Object // state.values: what the person has typed so far
	definition                   Object
}

type trigger struct {
	user   string
	viewID string // of the modal that the trigger came from
	born   time.Time
	used   bool
}

// Views returns the modals that user has open, the topmost last.
func (s *Server) Views(user string) []View {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []View
	for _, v := range s.stack(user) {
		out = append(out, *v)
	}
	return out
}

// Home returns the Home tab last published for user.
func (s *Server) Home(user string) (View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.home(user); v != nil {
		return *v, true
	}
	return View{}, false
}

// View returns one open view by its id.
func (s *Server) View(id string) (View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.views[id]; ok {
		return *v, true
	}
	return View{}, false
}

// stack is user's open modals from root to top; mu must be held.
func (s *Server) stack(user string) []*View {
	var out []*View
	for _, v := range s.views {
		if v.User == user && v.Type == "modal" {
			out = append(out, v)
		}
	}
	// Ids hold a growing number, so a longer one is a later one.
	slices.SortFunc(out, func(a, b *View) int {
		return cmp.Or(len(a.ID)-len(b.ID), strings.Compare(a.ID, b.ID))
	})
	return out
}

func (s *Server) home(user string) *View {
	for _, v := range s.views {
		if v.User == user && v.Type == "home" {
			return v
		}
	}
	return nil
}

// newTrigger makes a trigger_id for user; mu must be held.
func (s *Server) newTrigger(user, viewID string) string {
	s.serial++
	id := strconv.FormatInt(1000000+s.serial, 10) + "." + strconv.FormatInt(s.clk.Now().UnixMilli(), 10) + "." + s.shortID()
	s.triggers[id] = &trigger{user: user, viewID: viewID, born: s.clk.Now()}
	return id
}

// exchange uses up a trigger; mu must be held.
func (s *Server) exchange(id string) (*trigger, *apiError) {
	t, ok := s.triggers[id]
	switch {
	case id == "":
		return nil, &apiError{code: "invalid_arguments", messages: []string{"invalid `trigger_id`"}}
	case !ok:
		return nil, refuse("invalid_trigger_id")
	case t.used:
		return nil, refuse("exchanged_trigger_id")
	case s.clk.Now().Sub(t.born) > triggerLife:
		return nil, refuse("expired_trigger_id")
	}
	return t, nil
}

// viewArg reads and checks the view of a call.
func (a args) view(types ...string) (Object, *apiError) {
	view, err := a.object("view")
	if err != nil {
		return nil, invalid("%v", err)
	}
	if view == nil {
		return nil, invalid("missing required field: view")
	}
	return checkView(view, types...)
}

func checkView(view Object, types ...string) (Object, *apiError) {
	if len(mustJSON(view)) > maxViewJSON {
		return nil, refuse("view_too_large")
	}
	if typ := str(view, "type"); typ != "" && !slices.Contains(types, typ) {
		return nil, invalid("unsupported type: %s [json-pointer:/view/type]", typ)
	}
	if problems := ValidateView(view); len(problems) > 0 {
		return nil, blockError("invalid_arguments", problems)
	}
	return view, nil
}

// define gives v the content of a definition; mu must be held.
func (s *Server) define(v *View, def Object) {
	v.Type, v.CallbackID, v.ExternalID = str(def, "type"), str(def, "callback_id"), str(def, "external_id")
	v.PrivateMetadata = str(def, "private_metadata")
	v.NotifyOnClose, _ = def["notify_on_close"].(bool)
	v.ClearOnClose, _ = def["clear_on_close"].(bool)
	v.Title, v.Submit, v.Close = str(obj(def, "title"), "text"), str(obj(def, "submit"), "text"), str(obj(def, "close"), "text")
	v.Blocks = s.normalise(list(def, "blocks"))
	v.definition = def
	v.Revision++
	v.Updated = s.clk.Now()
	s.serial++
	v.Hash = strconv.FormatInt(v.Updated.Unix(), 10) + "." + s.shortID()
	s.keepTyped(v)
	s.bump()
}

// keepTyped carries over what was typed into inputs that still have the same block and action id,
// and drops the rest.
func (s *Server) keepTyped(v *View) {
	old := v.values
	v.values = Object{}
	for _, e := range elementsOf(v.Blocks) {
		if typed := obj(old, e.blockID)[e.actionID]; typed != nil {
			put(v.values, e, typed)
		} else if initial := initialValue(e.el); initial != nil {
			put(v.values, e, initial)
		}
	}
}

// place makes a new view for user on screen; mu must be held.
func (s *Server) place(user string, def Object, previous *View) *View {
	s.serial++
	v := &View{ID: "V0" + strconv.FormatInt(s.serial, 10), User: user, Opened: s.clk.Now()}
	v.RootID = v.ID
	if previous != nil {
		v.RootID, v.PreviousID = previous.RootID, previous.ID
	}
	s.views[v.ID] = v
	s.define(v, def)
	return v
}

func (s *Server) viewsOpen(a args) (Object, *apiError) {
	t, bad := s.exchange(a.str("trigger_id"))
	if bad != nil {
		return nil, bad
	}
	def, bad := a.view("modal")
	if bad != nil {
		return nil, bad
	}
	if bad := s.freeExternalID(def, nil); bad != nil {
		return nil, bad
	}
	t.used = true
	for _, v := range s.stack(t.user) { // a new root takes the place of what was open
		delete(s.views, v.ID)
	}
	return Object{"view": s.viewJSON(s.place(t.user, def, nil))}, nil
}

func (s *Server) viewsPush(a args) (Object, *apiError) {
	t, bad := s.exchange(a.str("trigger_id"))
	if bad != nil {
		return nil, bad
	}
	def, bad := a.view("modal")
	if bad != nil {
		return nil, bad
	}
	stack := s.stack(t.user)
	switch {
	case t.viewID == "" || len(stack) == 0:
		return nil, refuse("invalid_trigger_id")
	case len(stack) >= maxStack:
		return nil, refuse("push_limit_reached")
	}
	if bad := s.freeExternalID(def, nil); bad != nil {
		return nil, bad
	}
	t.used = true
	return Object{"view": s.viewJSON(s.place(t.user, def, stack[len(stack)-1]))}, nil
}

// freeExternalID refuses an external_id that another view has; mu must be held.
func (s *Server) freeExternalID(def Object, self *View) *apiError {
	id := str(def, "external_id")
	for _, v := range s.views {
		if id != "" && v.ExternalID == id && v != self {
			return refuse("duplicate_external_id")
		}
	}
	return nil
}

func (s *Server) viewsUpdate(a args) (Object, *apiError) {
	v, ok := s.views[a.str("view_id")]
	for _, x := range s.views {
		if id := a.str("external_id"); !ok && id != "" && x.ExternalID == id {
			v, ok = x, true
		}
	}
	if !ok {
		return nil, refuse("not_found")
	}
	def, bad := a.view(v.Type)
	if bad != nil {
		return nil, bad
	}
	if h := a.str("hash"); h != "" && h != v.Hash {
		return nil, refuse("hash_conflict")
	}
	if bad := s.freeExternalID(def, v); bad != nil {
		return nil, bad
	}
	s.define(v, def)
	return Object{"view": s.viewJSON(v)}, nil
}

func (s *Server) viewsPublish(a args) (Object, *apiError) {
	user, ok := s.user(a.str("user_id"))
	if !ok {
		return nil, &apiError{code: "invalid_arguments", messages: []string{"invalid `user_id`"}}
	}
	if s.ws.NoHomeTab {
		return nil, refuse("not_enabled")
	}
	def, bad := a.view("home")
	if bad != nil {
		return nil, bad
	}
	v := s.home(user.ID)
	if h := a.str("hash"); h != "" && (v == nil || h != v.Hash) {
		return nil, refuse("hash_conflict")
	}
	if bad := s.freeExternalID(def, v); bad != nil {
		return nil, bad
	}
	if v == nil {
		v = s.place(user.ID, def, nil)
	} else {
		s.define(v, def)
	}
	return Object{"view": s.viewJSON(v)}, nil
}

// viewJSON is the view as answers and payloads show it; mu must be held.
func (s *Server) viewJSON(v *View) Object {
	o := Object{
		"id": v.ID, "team_id": s.ws.ID, "type": v.Type, "blocks": v.Blocks,
		"private_metadata": v.PrivateMetadata, "callback_id": v.CallbackID, "external_id": v.ExternalID,
		"state": Object{"values": deepCopy(v.values)}, "hash": v.Hash,
		"clear_on_close": v.ClearOnClose, "notify_on_close": v.NotifyOnClose,
		"close": v.definition["close"], "submit": v.definition["submit"],
		"previous_view_id": nil, "root_view_id": v.RootID,
		"app_id": s.ws.AppID, "app_installed_team_id": s.ws.ID, "bot_id": s.ws.BotID,
	}
	if v.PreviousID != "" {
		o["previous_view_id"] = v.PreviousID
	}
	if title := v.definition["title"]; title != nil {
		o["title"] = title
	}
	return o
}

// placed is an element with the ids of where it stands.
type placed struct {
	el                Object
	blockID, actionID string
	input             Object // the input block around it, if any
}

// elementsOf lists the interactive elements of blocks from top to bottom.
func elementsOf(blocks []Object) []placed {
	var out []placed
	for _, b := range blocks {
		id := str(b, "block_id")
		add := func(el, input Object) {
			if el != nil && isInteractive(str(el, "type")) {
				out = append(out, placed{el: el, blockID: id, actionID: str(el, "action_id"), input: input})
			}
		}
		add(obj(b, "accessory"), nil)
		for _, el := range list(b, "elements") {
			add(el, nil)
		}
		if str(b, "type") == "input" {
			add(obj(b, "element"), b)
		}
	}
	return out
}

// pick finds an element by its action id, or by "block_id/action_id".
func pick(blocks []Object, name string) (placed, error) {
	var found []placed
	for _, e := range elementsOf(blocks) {
		if e.actionID == name || e.blockID+"/"+e.actionID == name || e.input != nil && e.blockID == name {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return placed{}, errors.Join(ErrNoElement, errors.New(name))
	case 1:
		return found[0], nil
	default:
		return placed{}, errors.Join(ErrNoElement, errors.New(name+" is there more than once: name it block_id/action_id"))
	}
}

func put(values Object, e placed, v any) {
	block := obj(values, e.blockID)
	if block == nil {
		block = Object{}
		values[e.blockID] = block
	}
	block[e.actionID] = v
}
