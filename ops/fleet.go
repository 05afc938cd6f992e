package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Project is a GitLab project as the domain sees it. Tokens and addresses belong to the adapter.
type Project struct {
	Name    string
	GitRef  string
	Actions map[string]Action
}

// Cluster is a group of instances that one project deploys.
type Cluster struct {
	Name      string
	Project   string
	Instances []string // listed, or
	Folder    string   // read from this folder of the project's repository
}

const (
	// fleetTTL is how long a list of instances that was read from a repository is used.
	fleetTTL = 60 * time.Second
	// fleetPause is how long a repository that did not answer is left alone by commands, so that
	// a GitLab that hangs costs people one wait and not one for each command.
	fleetPause = 10 * time.Second
)

// Fleet knows which instances exist: those that the configuration lists, and those in the
// repositories, read live and kept for 60 s. Safe for concurrent use.
type Fleet struct {
	projects map[string]Project
	clusters []Cluster
	repos    Repos
	clock    Clock

	mu     sync.Mutex
	cached map[string]fleetEntry // by cluster
}

type fleetEntry struct {
	names    []string
	at       time.Time
	failedAt time.Time
	err      error
}

// NewFleet returns a Fleet over the configured projects and clusters.
func NewFleet(projects []Project, clusters []Cluster, repos Repos, clock Clock) *Fleet {
	f := &Fleet{projects: map[string]Project{}, clusters: clusters, repos: repos, clock: clock, cached: map[string]fleetEntry{}}
	for _, p := range projects {
		f.projects[p.Name] = p
	}
	return f
}

// Projects lists the names of all projects, in order.
func (f *Fleet) Projects() []string {
	names := make([]string, 0, len(f.projects))
	for n := range f.projects {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Action returns a cluster's project and what the verb does there.
func (f *Fleet) Action(cluster, verb string) (Project, Action, error) {
	for _, c := range f.clusters {
		if c.Name == cluster {
			p := f.projects[c.Project]
			a, ok := p.Actions[verb]
			if !ok {
				return p, a, &Error{Code: CodeNotFound, Reason: ReasonUnknownVerb, Msg: fmt.Sprintf("%s cannot be done on %s.", verb, cluster), Next: "The operator declares what a project can do under operations in ocim.yaml."}
			}
			return p, a, nil
		}
	}
	return Project{}, Action{}, f.unknownCluster(cluster)
}

func (f *Fleet) unknownCluster(name string) error {
	var names []string
	for _, c := range f.clusters {
		names = append(names, c.Name)
	}
	return &Error{
		Code: CodeNotFound, Reason: ReasonUnknownCluster, Msg: fmt.Sprintf("There is no cluster %q.", name),
		Next: "Clusters: " + strings.Join(names, ", ") + ".", Suggest: Nearest(name, names, 3),
	}
}

// Instances lists what is known of all clusters, reading repositories whose list is older than
// 60 s. A repository that cannot be read keeps its last list; unread tells which clusters have none.
func (f *Fleet) Instances(ctx context.Context) (all []Target, unread []string) {
	for _, c := range f.clusters {
		names, err := f.list(ctx, c, false)
		if err != nil && names == nil {
			unread = append(unread, c.Name)
		}
		for _, n := range names {
			all = append(all, Target{c.Name, n})
		}
	}
	return all, unread
}

// Resolve finds the target that a person named as instance or cluster/instance. With fresh it
// reads the repository whatever the age of the list. CodeUnavailable means that the repository
// could not be asked and the name is not in what is known; the target is filled in all the same
// if the name can only belong to one cluster.
func (f *Fleet) Resolve(ctx context.Context, name string, fresh bool) (Target, error) {
	cluster, instance, qualified := strings.Cut(name, "/")
	if !qualified {
		cluster, instance = "", name
	}
	if !ValidInstance(instance) {
		return Target{}, f.unknown(ctx, name)
	}
	var hits []Target
	var failed error
	var silent []string
	matched := false
	for _, c := range f.clusters {
		if qualified && c.Name != cluster {
			continue
		}
		matched = true
		names, err := f.list(ctx, c, fresh)
		if err != nil {
			failed = err
			silent = append(silent, c.Name)
		}
		if slices.Contains(names, instance) {
			hits = append(hits, Target{c.Name, instance})
		}
	}
	switch {
	case !matched:
		return Target{}, f.unknownCluster(cluster)
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) > 1:
		e := &Error{Code: CodeInvalid, Reason: ReasonAmbiguousInstance, Msg: fmt.Sprintf("%q exists on more than one cluster.", instance), Next: "Name the cluster as well."}
		for _, h := range hits {
			e.Suggest = append(e.Suggest, h.String())
		}
		return Target{}, e
	case failed != nil && len(silent) == 1:
		return Target{silent[0], instance}, failed
	case failed != nil:
		return Target{}, failed
	}
	return Target{}, f.unknown(ctx, name)
}

func (f *Fleet) unknown(ctx context.Context, name string) error {
	all, _ := f.Instances(ctx)
	var names []string
	for _, t := range all {
		names = append(names, t.Instance)
	}
	_, instance, ok := strings.Cut(name, "/")
	if !ok {
		instance = name
	}
	slices.Sort(names)
	near := Nearest(instance, slices.Compact(names), 3)
	e := &Error{Code: CodeNotFound, Reason: ReasonUnknownInstance, Msg: fmt.Sprintf("There is no instance %q.", name), Suggest: near}
	if len(near) == 0 {
		e.Next = "A deploy without a name shows the list."
	}
	return e
}

func (f *Fleet) list(ctx context.Context, c Cluster, fresh bool) ([]string, error) {
	if c.Folder == "" {
		return c.Instances, nil
	}
	f.mu.Lock()
	have, ok := f.cached[c.Name]
	f.mu.Unlock()
	now := f.clock.Now()
	if ok && !fresh {
		if have.err == nil && now.Sub(have.at) < fleetTTL {
			return have.names, nil
		}
		if have.err != nil && now.Sub(have.failedAt) < fleetPause {
			return have.names, have.err
		}
	}
	names, err := f.repos.Instances(ctx, c.Project, c.Folder)
	if errors.Is(ctx.Err(), context.Canceled) { // whoever asked has gone; that says nothing of GitLab
		return have.names, err
	}
	if err != nil {
		have.err, have.failedAt = err, f.clock.Now()
		f.mu.Lock()
		f.cached[c.Name] = have
		f.mu.Unlock()
		return have.names, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !ValidInstance(n) })
	slices.Sort(names)
	f.mu.Lock()
	f.cached[c.Name] = fleetEntry{names: names, at: now}
	f.mu.Unlock()
	return names, nil
}

// ValidInstance reports whether name can be an instance. It becomes a Kubernetes namespace and
// part of bucket names, so what those refuse is refused here: at most 49 characters of a-z, 0-9
// and inner hyphens, and no name that a cluster needs for itself.
func ValidInstance(name string) bool {
	if name == "" || len(name) > 49 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	switch name {
	case "default", "monitoring", "openfaas", "openfaas-fn", "gitlab-kubernetes-agent":
		return false
	}
	return !strings.HasPrefix(name, "kube-")
}

// Cluster returns the cluster of that name.
func (f *Fleet) Cluster(name string) (Cluster, bool) {
	for _, c := range f.clusters {
		if c.Name == name {
			return c, true
		}
	}
	return Cluster{}, false
}
