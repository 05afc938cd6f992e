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
	// fleetPatience is how long anybody waits for a list. A read that takes longer goes on for those
	// who come later, at most for fleetLimit.
	fleetPatience = 300 * time.Millisecond
	fleetLimit    = 30 * time.Second
)

// Fleet knows which instances exist: those that the configuration lists, and those in the
// repositories, read live and kept for 60 s. Safe for concurrent use.
type Fleet struct {
	projects map[string]Project
	clusters []Cluster
	repos    Repos
	clock    Clock

	mu      sync.Mutex
	cached  map[string]fleetEntry    // by cluster
	reading map[string]chan struct{} // by cluster: closed when the read that is under way has ended
}

type fleetEntry struct {
	names    []string
	at       time.Time
	failedAt time.Time
	err      error
}

// NewFleet returns a Fleet over the configured projects and clusters.
func NewFleet(projects []Project, clusters []Cluster, repos Repos, clock Clock) *Fleet {
	f := &Fleet{
		projects: map[string]Project{}, clusters: slices.Clone(clusters), repos: repos, clock: clock,
		cached: map[string]fleetEntry{}, reading: map[string]chan struct{}{},
	}
	for _, p := range projects {
		f.projects[p.Name] = p
	}
	for i, c := range f.clusters {
		f.clusters[i].Instances = slices.Sorted(slices.Values(c.Instances))
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

// Actions returns what a verb does in each project that has it, by the project's name.
func (f *Fleet) Actions(verb string) map[string]Action {
	out := map[string]Action{}
	for name, p := range f.projects {
		if a, ok := p.Actions[verb]; ok {
			out[name] = a
		}
	}
	return out
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
	if qualified && cluster == "" {
		return Target{}, &Error{
			Code: CodeNotFound, Reason: ReasonUnknownCluster, Msg: fmt.Sprintf("%q names no cluster before the slash.", name),
			Next: "Write cluster/name, or the name alone.", Suggest: []string{instance},
		}
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
		if _, found := slices.BinarySearch(names, instance); found {
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

// list returns the sorted names of a cluster's instances. With an error they are those of the last
// list that could be read.
func (f *Fleet) list(ctx context.Context, c Cluster, fresh bool) ([]string, error) {
	if c.Folder == "" {
		return c.Instances, nil
	}
	f.mu.Lock()
	have, ok := f.cached[c.Name]
	now := f.clock.Now()
	if ok && !fresh {
		if have.err == nil && now.Sub(have.at) < fleetTTL || have.err != nil && now.Sub(have.failedAt) < fleetPause {
			f.mu.Unlock()
			return have.names, have.err
		}
	}
	if err := ctx.Err(); err != nil {
		f.mu.Unlock()
		return have.names, err
	}
	done := f.reading[c.Name]
	if done == nil {
		done = make(chan struct{})
		f.reading[c.Name] = done
		go f.read(context.WithoutCancel(ctx), c, done)
	}
	f.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	select {
	case <-done:
	case <-wait.Done():
		if errors.Is(ctx.Err(), context.Canceled) { // whoever asked has gone; that says nothing of GitLab
			return have.names, ctx.Err()
		}
		f.keep(c.Name, nil, now, &Error{Code: CodeUnavailable, Reason: ReasonGitLabUnavailable, Msg: "GitLab does not answer in time.", Err: wait.Err()}, done)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	have = f.cached[c.Name]
	return have.names, have.err
}

// read asks the repository, for everybody who waits and for those who come later.
func (f *Fleet) read(ctx context.Context, c Cluster, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, fleetLimit)
	defer cancel()
	at := f.clock.Now()
	var names []string
	var err error
	defer func() {
		if p := recover(); p != nil { // nobody's request, and so nobody else's to contain
			err = fmt.Errorf("read the instances of %s: panic: %v", c.Name, p)
		}
		f.keep(c.Name, names, at, err, nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.reading, c.Name)
		close(done)
	}()
	names, err = f.repos.Instances(ctx, c.Project, c.Folder)
	names = slices.DeleteFunc(names, func(n string) bool { return !ValidInstance(n) })
	slices.Sort(names)
}

// keep takes over what a read has brought. An error leaves the last list as it is. What is said
// about a read that is late counts only while that one is under way.
func (f *Fleet) keep(cluster string, names []string, at time.Time, err error, late chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have := f.cached[cluster]
	switch {
	case late != nil && f.reading[cluster] != late:
		return
	case err != nil:
		have.err, have.failedAt = err, f.clock.Now()
	default:
		have = fleetEntry{names: names, at: at}
	}
	f.cached[cluster] = have
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
