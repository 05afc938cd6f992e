package mattermosttest

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// cookie is an action of an ephemeral post. A real server gives the client
// all of it, encrypted; here the client gets a key to this.
type cookie struct {
	post   Post
	action Action
}

func (s *Server) addCookie(p *Post, a Action) string {
	key := base64.StdEncoding.EncodeToString([]byte(newID() + newID()))
	s.cookies[key] = cookie{post: *p, action: a}
	return key
}

// retained are the props that an integration's update cannot change.
func retained() []string { return []string{"from_webhook", "override_username", "override_icon_url"} }

func (s *Server) clickAction(c *call) (reply, *APIError) {
	var in struct {
		SelectedOption string `json:"selected_option"`
		Cookie         string `json:"cookie"`
	}
	_ = json.Unmarshal(c.body, &in) // a bad body is only logged
	if strings.ContainsFunc(c.path("action"), notAlphanumeric) {
		return fail(errRoute(c.r.URL.Path)) // the route does not match
	}
	s.mu.Lock()
	target, action, err := s.clicked(c, in.Cookie)
	if err != nil {
		s.mu.Unlock()
		return fail(err)
	}
	ch := s.channels[target.ChannelID]
	req := Click{
		UserID: c.user.id, UserName: c.user.name, ChannelID: ch.id, ChannelName: ch.name, TeamID: ch.teamID,
		PostID: c.path("id"), Type: action.Type, Context: action.Integration.Context,
	}
	if t := s.teams[ch.teamID]; t != nil {
		req.TeamDomain = t.name
	}
	if action.Type == "select" && in.SelectedOption != "" {
		req.DataSource = action.DataSource
		req.Context = maps.Clone(req.Context)
		if req.Context == nil {
			req.Context = map[string]any{}
		}
		req.Context["selected_option"] = in.SelectedOption
	}
	clientID, trigger := s.newTrigger(c.user.id)
	req.TriggerID = trigger
	s.mu.Unlock()

	body, err := s.deliverJSON("action", action.Integration.URL, []byte(mustJSON(req)))
	if err != nil {
		return fail(err)
	}
	if err := s.clickAnswered(c.user, target, in.Cookie == "", body); err != nil {
		return fail(err)
	}
	return ok(map[string]string{"status": "OK", "trigger_id": clientID})
}

func notAlphanumeric(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
}

// clicked finds post and action of a click, in the channel or in a cookie.
func (s *Server) clicked(c *call, key string) (Post, Action, *APIError) {
	if key != "" {
		k, found := s.cookies[key]
		switch {
		case !found || k.action.Integration == nil || k.post.ID != c.path("id"):
			return Post{}, Action{}, errIntegration()
		case !s.reads(c.user, k.post.ChannelID):
			return Post{}, Action{}, errPermission()
		}
		return k.post, k.action, nil
	}
	r := s.find(c.path("id"))
	if r == nil || !s.belongs(c.user, r.now().ChannelID) {
		return Post{}, Action{}, errPermission()
	}
	if r.now().DeleteAt != 0 {
		return Post{}, Action{}, errPostMissing()
	}
	a, found := r.now().action(c.path("action"))
	if !found || a.Integration == nil {
		return Post{}, Action{}, apiError(http.StatusNotFound, "api.post.do_action.action_id.app_error",
			"Invalid action id.")
	}
	return r.now().clone(), a, nil
}

// clickAnswered does what the integration's answer says.
func (s *Server) clickAnswered(u *user, target Post, stored bool, body []byte) *APIError {
	var out struct {
		Update *struct {
			Message string         `json:"message"`
			Props   map[string]any `json:"props"`
		} `json:"update"`
		EphemeralText    string `json:"ephemeral_text"`
		SkipSlackParsing bool   `json:"skip_slack_parsing"`
	}
	if len(body) > 0 && json.Unmarshal(body, &out) != nil {
		return errIntegration()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[string]any{}
	for _, key := range retained() {
		if v, found := target.Props[key]; found {
			kept[key] = v
		}
	}
	if out.Update != nil {
		r := s.live(target.ID)
		if !stored || r == nil {
			return errPostMissing()
		}
		c := change{message: out.Update.Message, props: target.Props, pinned: target.IsPinned, files: r.now().FileIDs}
		if out.Update.Props != nil {
			c.props = props(out.Update.Props)
			for _, key := range retained() {
				delete(c.props, key)
			}
			maps.Copy(c.props, kept)
		}
		if _, err := s.edit(r, c); err != nil {
			return err
		}
	}
	if out.EphemeralText != "" {
		text := out.EphemeralText
		if !out.SkipSlackParsing {
			text = slackLinks(text)
		}
		s.sendEphemeral(u.id, Post{
			UserID: u.id, ChannelID: target.ChannelID, RootID: cmp.Or(target.RootID, target.ID),
			Message: text, Props: kept,
		})
	}
	return nil
}

// newTrigger makes a trigger id as Mattermost does: who and when, signed.
// The short form is for clients.
func (s *Server) newTrigger(userID string) (short, full string) {
	short = newID()
	signed := short + ":" + userID + ":" + strconv.FormatInt(s.clock.Now().UnixMilli(), 10) + ":"
	sum := sha256.Sum256([]byte(signed))
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		return short, ""
	}
	return short, base64.StdEncoding.EncodeToString([]byte(signed + base64.StdEncoding.EncodeToString(sig)))
}

// checkTrigger tells whose trigger it is. It lives for defaultTimeout and may
// be used any number of times.
func (s *Server) checkTrigger(trigger string) (short, userID string, _ *APIError) {
	const prefix = "interactive_message.decode_trigger_id."
	bad := func(id, message string) (string, string, *APIError) {
		return "", "", apiError(http.StatusBadRequest, prefix+id, message)
	}
	raw, err := base64.StdEncoding.DecodeString(trigger)
	if err != nil {
		return bad("base64_decode_failed", "Failed to decode base64 for trigger ID for interactive dialog.")
	}
	parts := strings.Split(string(raw), ":")
	if len(parts) != 4 {
		return bad("missing_data", "Trigger ID missing required data for interactive dialog.")
	}
	at, _ := strconv.ParseInt(parts[2], 10, 64)
	if s.clock.Now().Sub(time.UnixMilli(at)) > defaultTimeout {
		return bad("expired", "Trigger ID for interactive dialog is expired. Trigger IDs live for a maximum of "+
			defaultTimeout.String()+".")
	}
	sig, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return bad("base64_decode_failed_signature",
			"Failed to decode base64 signature of trigger ID for interactive dialog.")
	}
	var shape struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &shape); err != nil {
		return bad("signature_decode_failed",
			"Failed to decode base64 signature of trigger ID for interactive dialog.")
	}
	sum := sha256.Sum256([]byte(strings.Join(parts[:3], ":") + ":"))
	if !ecdsa.VerifyASN1(&s.key.PublicKey, sum[:], sig) {
		return bad("verify_signature_failed",
			"Signature verification failed of trigger ID for interactive dialog.")
	}
	return parts[0], parts[1], nil
}
