package mattermosttest

import (
	"encoding/json"
	"maps"
	"slices"
)

// Post is a message as the API writes it (Mattermost 11.1: model.Post).
// Times are Unix milliseconds, zero for "never".
type Post struct {
	ID            string         `json:"id"`
	CreateAt      int64          `json:"create_at"`
	UpdateAt      int64          `json:"update_at"`
	EditAt        int64          `json:"edit_at"`
	DeleteAt      int64          `json:"delete_at"`
	IsPinned      bool           `json:"is_pinned"`
	UserID        string         `json:"user_id"`
	ChannelID     string         `json:"channel_id"`
	RootID        string         `json:"root_id"`
	OriginalID    string         `json:"original_id"`
	Message       string         `json:"message"`
	Type          string         `json:"type"`
	Props         map[string]any `json:"props"`
	Hashtags      string         `json:"hashtags"`
	FileIDs       []string       `json:"file_ids"`
	PendingPostID string         `json:"pending_post_id"`
	RemoteID      *string        `json:"remote_id,omitempty"`
	ReplyCount    int64          `json:"reply_count"`
	LastReplyAt   int64          `json:"last_reply_at"`
	Participants  []any          `json:"participants"`
	Metadata      *Metadata      `json:"metadata,omitempty"`
}

// Metadata is what the server adds to a post for its clients.
type Metadata struct {
	Embeds []Embed    `json:"embeds,omitempty"`
	Files  []FileInfo `json:"files,omitempty"`
}

// Embed says what kind of extra a post carries, here only attachments.
type Embed struct {
	Type string `json:"type"`
}

// Attachment is one attachment of a post's props (model.SlackAttachment).
type Attachment struct {
	ID         int64    `json:"id"`
	Fallback   string   `json:"fallback"`
	Color      string   `json:"color"`
	Pretext    string   `json:"pretext"`
	AuthorName string   `json:"author_name"`
	AuthorLink string   `json:"author_link"`
	AuthorIcon string   `json:"author_icon"`
	Title      string   `json:"title"`
	TitleLink  string   `json:"title_link"`
	Text       string   `json:"text"`
	Fields     []*Field `json:"fields"`
	ImageURL   string   `json:"image_url"`
	ThumbURL   string   `json:"thumb_url"`
	Footer     string   `json:"footer"`
	FooterIcon string   `json:"footer_icon"`
	Timestamp  any      `json:"ts"`
	Actions    []Action `json:"actions,omitempty"`
}

// Field is a titled value of an attachment.
type Field struct {
	Title string `json:"title"`
	Value any    `json:"value"`
	Short bool   `json:"short"`
}

// Action is a button or a menu of an attachment (model.PostAction).
// Integration is only in what an integration sends; the server never gives it
// out. Cookie is only in ephemeral posts.
type Action struct {
	ID            string       `json:"id,omitempty"`
	Type          string       `json:"type,omitempty"`
	Name          string       `json:"name,omitempty"`
	Disabled      bool         `json:"disabled,omitempty"`
	Style         string       `json:"style,omitempty"`
	DataSource    string       `json:"data_source,omitempty"`
	Options       []Option     `json:"options,omitempty"`
	DefaultOption string       `json:"default_option,omitempty"`
	Integration   *Integration `json:"integration,omitempty"`
	Cookie        string       `json:"cookie,omitempty"`
}

// Option is a choice of a menu or of a dialog's select.
type Option struct {
	Text  string `json:"text"`
	Value string `json:"value"`
}

// Integration is where a click goes and what goes with it.
type Integration struct {
	URL     string         `json:"url,omitempty"`
	Context map[string]any `json:"context,omitempty"`
}

// Click is what an integration receives for a button or a menu
// (model.PostActionIntegrationRequest).
type Click struct {
	UserID      string         `json:"user_id"`
	UserName    string         `json:"user_name"`
	ChannelID   string         `json:"channel_id"`
	ChannelName string         `json:"channel_name"`
	TeamID      string         `json:"team_id"`
	TeamDomain  string         `json:"team_domain"`
	PostID      string         `json:"post_id"`
	TriggerID   string         `json:"trigger_id"`
	Type        string         `json:"type"`
	DataSource  string         `json:"data_source"`
	Context     map[string]any `json:"context,omitempty"`
}

// Dialog is a form (model.Dialog).
type Dialog struct {
	CallbackID       string    `json:"callback_id"`
	Title            string    `json:"title"`
	IntroductionText string    `json:"introduction_text"`
	IconURL          string    `json:"icon_url"`
	Elements         []Element `json:"elements"`
	SubmitLabel      string    `json:"submit_label"`
	NotifyOnCancel   bool      `json:"notify_on_cancel"`
	State            string    `json:"state"`
	SourceURL        string    `json:"source_url,omitempty"`
}

// Element is a field of a dialog (model.DialogElement).
type Element struct {
	DisplayName   string   `json:"display_name"`
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	SubType       string   `json:"subtype"`
	Default       string   `json:"default"`
	Placeholder   string   `json:"placeholder"`
	HelpText      string   `json:"help_text"`
	Optional      bool     `json:"optional"`
	MinLength     int      `json:"min_length"`
	MaxLength     int      `json:"max_length"`
	DataSource    string   `json:"data_source"`
	DataSourceURL string   `json:"data_source_url,omitempty"`
	Options       []Option `json:"options"`
	MultiSelect   bool     `json:"multiselect"`
	Refresh       bool     `json:"refresh,omitempty"`
}

// OpenDialog is a dialog on somebody's screen: the request that opened it,
// with the trigger id shortened as the server does.
type OpenDialog struct {
	TriggerID string `json:"trigger_id"`
	URL       string `json:"url"`
	Dialog    Dialog `json:"dialog"`
}

// Submission is what an integration receives for a dialog
// (model.SubmitDialogRequest). Everything but UserID is the client's word.
type Submission struct {
	Type       string         `json:"type"`
	URL        string         `json:"url,omitempty"`
	CallbackID string         `json:"callback_id"`
	State      string         `json:"state"`
	UserID     string         `json:"user_id"`
	ChannelID  string         `json:"channel_id"`
	TeamID     string         `json:"team_id"`
	Submission map[string]any `json:"submission"`
	Cancelled  bool           `json:"cancelled"`
}

// SlashCommand is a registered command (model.Command).
type SlashCommand struct {
	ID               string `json:"id"`
	Token            string `json:"token"`
	CreateAt         int64  `json:"create_at"`
	UpdateAt         int64  `json:"update_at"`
	DeleteAt         int64  `json:"delete_at"`
	CreatorID        string `json:"creator_id"`
	TeamID           string `json:"team_id"`
	Trigger          string `json:"trigger"`
	Method           string `json:"method"`
	Username         string `json:"username"`
	IconURL          string `json:"icon_url"`
	AutoComplete     bool   `json:"auto_complete"`
	AutoCompleteDesc string `json:"auto_complete_desc"`
	AutoCompleteHint string `json:"auto_complete_hint"`
	DisplayName      string `json:"display_name"`
	Description      string `json:"description"`
	URL              string `json:"url"`
	PluginID         string `json:"plugin_id"`
}

// FileInfo describes an uploaded file (model.FileInfo).
type FileInfo struct {
	ID          string  `json:"id"`
	UserID      string  `json:"user_id"`
	PostID      string  `json:"post_id,omitempty"`
	ChannelID   string  `json:"channel_id"`
	CreateAt    int64   `json:"create_at"`
	UpdateAt    int64   `json:"update_at"`
	DeleteAt    int64   `json:"delete_at"`
	Name        string  `json:"name"`
	Extension   string  `json:"extension"`
	Size        int64   `json:"size"`
	MimeType    string  `json:"mime_type"`
	MiniPreview *string `json:"mini_preview"`
	RemoteID    string  `json:"remote_id"`
	Archived    bool    `json:"archived"`
}

// PostList is a page of posts, a thread, or what changed since an instant.
// Order holds ids, newest first (threads: oldest first); Posts may hold more
// than Order names: the roots of threads.
type PostList struct {
	Order                     []string        `json:"order"`
	Posts                     map[string]Post `json:"posts"`
	NextPostID                string          `json:"next_post_id"`
	PrevPostID                string          `json:"prev_post_id"`
	HasNext                   *bool           `json:"has_next,omitempty"`
	FirstInaccessiblePostTime int64           `json:"first_inaccessible_post_time"`
}

// commandReply is what a command's integration answers, and what the server
// passes on to the client (model.CommandResponse).
type commandReply struct {
	ResponseType     string          `json:"response_type"`
	Text             string          `json:"text"`
	Username         string          `json:"username"`
	ChannelID        string          `json:"channel_id"`
	IconURL          string          `json:"icon_url"`
	Type             string          `json:"type"`
	Props            map[string]any  `json:"props"`
	GotoLocation     string          `json:"goto_location"`
	TriggerID        string          `json:"trigger_id"`
	SkipSlackParsing bool            `json:"skip_slack_parsing"`
	Attachments      []*Attachment   `json:"attachments"`
	ExtraResponses   []*commandReply `json:"extra_responses"`
}

// Attachments decodes the attachments of the post's props. As on the server,
// one that does not decode (a number for a title, say) is left out.
func (p *Post) Attachments() []*Attachment {
	if typed, ok := p.Props["attachments"].([]*Attachment); ok {
		return typed
	}
	raw, ok := p.Props["attachments"].([]any)
	if !ok {
		return nil
	}
	var out []*Attachment
	for _, r := range raw {
		b, err := json.Marshal(r)
		if err != nil {
			continue
		}
		var a Attachment
		if json.Unmarshal(b, &a) == nil {
			a.Fields = slices.DeleteFunc(a.Fields, func(f *Field) bool { return f == nil })
			out = append(out, &a)
		}
	}
	return out
}

// Actions are all buttons and menus of the post, in order.
func (p *Post) Actions() []Action {
	var out []Action
	for _, a := range p.Attachments() {
		out = append(out, a.Actions...)
	}
	return out
}

// action finds the first action with the id, as the server does.
func (p *Post) action(id string) (Action, bool) {
	for _, a := range p.Actions() {
		if a.ID == id {
			return a, true
		}
	}
	return Action{}, false
}

// clone copies the post deeply enough that neither copy sees the other's
// changes: props are only ever replaced, never changed in place, except for
// the attachments, which are copied.
func (p *Post) clone() Post {
	c := *p
	c.Props = maps.Clone(p.Props)
	if c.Props == nil {
		c.Props = map[string]any{}
	}
	if _, ok := c.Props["attachments"]; ok {
		c.Props["attachments"] = cloneAttachments(p.Attachments())
	}
	c.FileIDs = slices.Clone(p.FileIDs)
	if p.Metadata != nil {
		m := *p.Metadata
		c.Metadata = &m
	}
	return c
}

func cloneAttachments(in []*Attachment) []*Attachment {
	out := make([]*Attachment, 0, len(in))
	for _, a := range in {
		c := *a
		c.Actions = slices.Clone(a.Actions)
		fields := make([]*Field, 0, len(a.Fields))
		for _, f := range a.Fields {
			g := *f
			fields = append(fields, &g)
		}
		if a.Fields != nil {
			c.Fields = fields
		}
		out = append(out, &c)
	}
	return out
}
