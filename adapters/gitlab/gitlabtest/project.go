package gitlabtest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role is a member's access level in a project, with GitLab's own numbers.
type Role int

// Roles (GitLab: lib/gitlab/access.rb).
const (
	Guest      Role = 10
	Reporter   Role = 20
	Developer  Role = 30
	Maintainer Role = 40
	Owner      Role = 50
)

// Token is a personal, project or group access token as one project sees it. The same Value may be
// given to several projects.
type Token struct {
	Value string
	// User is the user name of the owner; empty is derived from the project.
	User string
	Role Role
	// Scopes are api, read_api, read_repository, write_repository, self_rotate; empty is api.
	Scopes []string
	// ExpiresAt ends the token; zero is in a year.
	ExpiresAt time.Time
	Revoked   bool
}

// Input is a declared input of spec:inputs. Without a Default it is required.
type Input struct {
	Name    string
	Default *string
}

// Project describes a project.
type Project struct {
	// ID is the numeric id; zero takes the next free one.
	ID int64
	// Path is path_with_namespace, such as "opencraft/cluster-1".
	Path          string
	DefaultBranch string // empty is main
	// Branches are further branches, or tags, that exist from the start.
	Branches []string
	// TriggerToken starts pipelines as TriggerOwner (a user name, "grove-bot" if empty) with
	// TriggerRole (Developer if zero).
	TriggerToken string
	TriggerOwner string
	TriggerRole  Role
	Tokens       []Token
	// Instances get instances/<name>/config.yml and grove.yml in the repository. Files adds
	// further files by path.
	Instances []string
	Files     map[string]string
	// Behaviour is what pipelines do; the zero value is a plain pipeline of one job.
	Behaviour Behaviour
	// Inputs are the declared inputs of the configuration.
	Inputs []Input
	// ConfigError, if set, is why .gitlab-ci.yml is invalid.
	ConfigError string
	// NoJobs says that rules leave no job for any pipeline.
	NoJobs bool
	// VariablesForbidden says that nobody may set pipeline variables.
	VariablesForbidden bool
	// MaintainersOnly protects the default branch from pipelines of Developers.
	MaintainersOnly bool
	// CancelGrace is how long a running job stays in canceling; it is divided by Options.Speed.
	CancelGrace time.Duration
	// CancelKeepsChildren makes cancel leave child pipelines alone, as an older GitLab does.
	CancelKeepsChildren bool
}

// project is a Project with its state.
type project struct {
	Project

	owner     *user // of the trigger token
	repo      *repository
	overrides []*override
	pipelines []*pipeline
	hooks     []*hook
	resources map[string]*resource
	requests  []*mergeRequest
	created   time.Time
	lastIID   int64
}

// user is a GitLab user.
type user struct {
	id       int64
	username string
	name     string
}

// token is an access token with the roles its user has.
type token struct {
	Token

	id      int64
	user    *user
	roles   map[int64]Role
	created time.Time
}

// resource is a resource group's state.
type resource struct {
	holder  *job
	waiting []*job
}

// AddProject adds a project and returns its id. It panics if the id or the path is taken: that is
// a mistake in the test that calls it.
func (s *Server) AddProject(cfg Project) int64 {
	s.do(func() {
		if cfg.ID == 0 {
			cfg.ID = 1
			for s.projects[cfg.ID] != nil {
				cfg.ID++
			}
		}
		if cfg.Path == "" {
			cfg.Path = fmt.Sprintf("group/project-%d", cfg.ID)
		}
		if s.projects[cfg.ID] != nil || s.byPath[cfg.Path] != nil {
			panic(fmt.Sprintf("gitlabtest: project %d or path %q exists", cfg.ID, cfg.Path))
		}
		if cfg.DefaultBranch == "" {
			cfg.DefaultBranch = "main"
		}
		if cfg.TriggerOwner == "" {
			cfg.TriggerOwner = "grove-bot"
		}
		if cfg.TriggerRole == 0 {
			cfg.TriggerRole = Developer
		}
		p := &project{Project: cfg, created: s.at, resources: map[string]*resource{}}
		p.Instances = slices.Clone(cfg.Instances)
		p.owner = s.userNamed(cfg.TriggerOwner)
		p.repo = s.newRepository(p)
		for _, t := range cfg.Tokens {
			s.addToken(p, t)
		}
		s.projects[p.ID] = p
		s.byPath[p.Path] = p
	})
	return cfg.ID
}

// UpdateProject changes a project's settings while the server runs. Only fields that are read when
// a pipeline is made or a request answered have an effect: not ID, Path, Files or Tokens.
func (s *Server) UpdateProject(id int64, change func(*Project)) {
	s.do(func() {
		if p := s.projects[id]; p != nil {
			change(&p.Project)
		}
	})
}

// AddToken gives a project one more access token, or an existing token a role there.
func (s *Server) AddToken(projectID int64, t Token) {
	s.do(func() {
		if p := s.projects[projectID]; p != nil {
			s.addToken(p, t)
		}
	})
}

// RevokeToken revokes an access token, or a trigger token, in all projects.
func (s *Server) RevokeToken(value string) {
	s.do(func() {
		if t := s.tokens[value]; t != nil {
			t.Revoked = true
		}
		for _, p := range s.projects {
			if p.TriggerToken == value {
				p.TriggerToken = ""
			}
		}
	})
}

func (s *Server) addToken(p *project, cfg Token) {
	t := s.tokens[cfg.Value]
	if t == nil {
		if cfg.User == "" {
			cfg.User = fmt.Sprintf("project_%d_bot", p.ID)
		}
		if len(cfg.Scopes) == 0 {
			cfg.Scopes = []string{"api"}
		}
		if cfg.ExpiresAt.IsZero() {
			cfg.ExpiresAt = s.at.AddDate(1, 0, 0)
		}
		s.ids.token++
		t = &token{Token: cfg, id: s.ids.token, user: s.userNamed(cfg.User), roles: map[int64]Role{}, created: s.at}
		s.tokens[cfg.Value] = t
	}
	t.roles[p.ID] = cfg.Role
}

// userNamed returns the user of that name, making it if there is none.
func (s *Server) userNamed(name string) *user {
	if u := s.users[name]; u != nil {
		return u
	}
	s.ids.user++
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	u := &user{id: s.ids.user, username: name, name: strings.Join(words, " ")}
	s.users[name] = u
	return u
}

// find returns the project with a numeric id or a path.
func (s *Server) find(ref string) *project {
	if p := s.byPath[ref]; p != nil {
		return p
	}
	if id, ok := parseID(ref); ok {
		return s.projects[id]
	}
	return nil
}
