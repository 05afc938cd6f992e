package slacktest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// EventResult is how the delivery of one event went.
type EventResult struct {
	ID string
	// Answers are the acknowledgements, one for each attempt.
	Answers []Answer
	// Delivered tells whether the last attempt was acknowledged.
	Delivered bool
}

// Event sends inner (an object with at least a type) in an event_callback and, as long as the bot
// does not acknowledge, sends it again at once, after 1 min and after 5 min of the server's clock,
// with X-Slack-Retry-Num and X-Slack-Retry-Reason. A bot ends that with X-Slack-No-Retry: 1.
// Source: docs.slack.dev, apis/events-api. Types that nobody knows are sent like any other.
func (s *Server) Event(ctx context.Context, inner Object) (EventResult, error) {
	id, wrapper := s.wrap(inner)
	return s.deliverEvent(ctx, id, wrapper)
}

func (s *Server) deliverEvent(ctx context.Context, id string, wrapper Object) (EventResult, error) {
	res := EventResult{ID: id}
	again := redelivery{}
	for {
		a, err := s.deliver(ctx, kindEvent, wrapper, again)
		if err != nil {
			return res, err
		}
		res.Answers = append(res.Answers, a)
		res.Delivered = a.OK()
		if a.OK() || a.Header.Get("X-Slack-No-Retry") == "1" || again.num >= len(s.delays) || ctx.Err() != nil {
			return res, ctx.Err()
		}
		s.wait(ctx, s.delays[again.num])
		again = redelivery{num: again.num + 1, reason: retryReason(a)}
	}
}

// Redeliver sends an event again although it may have been acknowledged, as Slack does when the
// acknowledgement got lost.
func (s *Server) Redeliver(ctx context.Context, eventID string, num int, reason string) (Answer, error) {
	s.mu.Lock()
	wrapper, ok := s.events[eventID]
	s.mu.Unlock()
	if !ok {
		return Answer{}, fmt.Errorf("%w: event %s was never sent", ErrNoMessage, eventID)
	}
	return s.deliver(ctx, kindEvent, wrapper, redelivery{num: num, reason: reason})
}

func retryReason(a Answer) string {
	switch {
	case a.TimedOut:
		return "http_timeout"
	case a.Status >= 300 && a.Status < 400:
		return "too_many_redirects"
	case a.Status != 0:
		return "http_error"
	case strings.Contains(a.Err, "tls"):
		return "ssl_error"
	}
	return "connection_failed"
}

// wrap makes the event_callback around inner and keeps it for redelivery.
func (s *Server) wrap(inner Object) (string, Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	now := s.clk.Now()
	id := "Ev" + strings.ToUpper(strconv.FormatInt(s.serial+1e9, 36))
	inner, _ = deepCopy(inner).(Object)
	if str(inner, "event_ts") == "" {
		inner["event_ts"] = s.nextTS()
	}
	auth := Object{
		"enterprise_id": nullable(s.ws.EnterpriseID), "team_id": s.ws.ID, "user_id": s.ws.BotUser,
		"is_bot": true, "is_enterprise_install": s.ws.OrgInstall,
	}
	if s.ws.OrgInstall {
		auth["team_id"] = nil
	}
	wrapper := Object{
		"token": s.verificationToken(), "team_id": s.ws.ID, "api_app_id": s.ws.AppID, "event": inner,
		"type": "event_callback", "event_id": id, "event_time": now.Unix(),
		"authorizations":        []any{auth},
		"is_ext_shared_channel": false, "event_context": "4-" + id,
	}
	s.events[id] = wrapper
	return id, wrapper
}

func nullable(v string) any {
	if v == "" {
		return nil
	}
	return v
}

// OpenHome opens the app's Home tab as user, which sends app_home_opened with the view published
// before, if any.
func (s *Server) OpenHome(ctx context.Context, user string) (EventResult, error) {
	s.mu.Lock()
	u, ok := s.user(user)
	if !ok {
		s.mu.Unlock()
		return EventResult{}, fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	c, _ := s.direct(u.ID)
	inner := Object{"type": "app_home_opened", "user": u.ID, "channel": c.ID, "tab": "home"}
	if v := s.home(u.ID); v != nil {
		inner["view"] = s.viewJSON(v)
	}
	s.mu.Unlock()
	return s.Event(ctx, inner)
}

// Mention posts text as user and sends the app_mention event for it. The mention of the bot is put
// in front of the text. threadTS is empty outside threads.
func (s *Server) Mention(ctx context.Context, user, channel, text, threadTS string) (EventResult, error) {
	s.mu.Lock()
	bot := s.ws.BotUser
	s.mu.Unlock()
	m, err := s.Say(user, channel, "<@"+bot+"> "+text, threadTS)
	if err != nil {
		return EventResult{}, err
	}
	return s.Event(ctx, s.messageEvent("app_mention", m))
}

// Direct writes to the bot in a direct message and sends the message.im event for it.
func (s *Server) Direct(ctx context.Context, user, text string) (EventResult, error) {
	s.mu.Lock()
	if _, ok := s.user(user); !ok {
		s.mu.Unlock()
		return EventResult{}, fmt.Errorf("%w: %s", ErrNoUser, user)
	}
	c, _ := s.direct(user)
	s.mu.Unlock()
	m, err := s.Say(user, c.ID, text, "")
	if err != nil {
		return EventResult{}, err
	}
	inner := s.messageEvent("message", m)
	inner["channel_type"] = "im"
	return s.Event(ctx, inner)
}

func (s *Server) messageEvent(typ string, m Message) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	inner := Object{
		"type": typ, "user": m.User, "text": m.Text, "ts": m.TS, "channel": m.Channel, "team": s.ws.ID, "event_ts": m.TS,
		"client_msg_id": fmt.Sprintf("00000000-0000-4000-8000-%012d", s.serial),
	}
	if m.ThreadTS != "" {
		inner["thread_ts"] = m.ThreadTS
	}
	return inner
}

// RateLimitEvents sends app_rate_limited, which has no inner event.
func (s *Server) RateLimitEvents(ctx context.Context) (Answer, error) {
	s.mu.Lock()
	p := Object{
		"token": s.verificationToken(), "type": "app_rate_limited", "team_id": s.ws.ID,
		"minute_rate_limited": s.clk.Now().Truncate(time.Minute).Unix(), "api_app_id": s.ws.AppID,
	}
	s.mu.Unlock()
	return s.deliver(ctx, kindEvent, p, redelivery{})
}
