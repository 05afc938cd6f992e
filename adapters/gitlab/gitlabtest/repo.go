package gitlabtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// zeroSHA is the before_sha of a pipeline without a push.
const zeroSHA = "0000000000000000000000000000000000000000"

// commit is a commit. Its files are those of its first parent with changes applied.
type commit struct {
	id      string
	parents []*commit
	message string
	author  *user
	at      time.Time
	changes map[string]*string // nil is a deletion
	files   map[string]string  // all files, once asked for
}

// repository is a project's git repository.
type repository struct {
	branches map[string]*commit
	tags     map[string]bool
	commits  map[string]*commit
	log      []*commit
	kept     []*commit // those with a tree
}

// mergeRequest is a merge request.
type mergeRequest struct {
	id, iid          int64
	project          *project
	title            string
	source, target   string
	state            string
	author           *user
	head             *commit
	merge            *commit
	created, updated time.Time
	merged           time.Time
	story            *story
}

// newRepository returns a repository with the project's instances and files in one commit.
func (s *Server) newRepository(p *project) *repository {
	r := &repository{branches: map[string]*commit{}, tags: map[string]bool{}, commits: map[string]*commit{}}
	files := map[string]*string{}
	add := func(path, content string) { files[path] = &content }
	add(".gitlab-ci.yml", "include:\n  - project: opencraft/dev/grove\n    ref: v0.16.0\n    file: .gitlab-ci.yml\n")
	add("README.md", "# "+p.Path+"\n")
	add("cluster.yml", "TF_VAR_cluster_name: "+lastPart(p.Path)+"\nTF_VAR_do_region: sfo3\nTF_VAR_max_worker_node_count: 5\n")
	for _, name := range p.Instances {
		instanceFiles(name, add)
	}
	for path, content := range p.Files {
		add(path, content)
	}
	root := s.newCommit(r, nil, p.owner, "Create the cluster from the template", files)
	r.branches[p.DefaultBranch] = root
	for _, b := range p.Branches {
		r.branches[b] = root
	}
	return r
}

// instanceFiles adds the files of an instance as Grove lays them out.
func instanceFiles(name string, add func(path, content string)) {
	add("instances/"+name+"/config.yml", "LMS_HOST: "+name+".example.com\nCMS_HOST: studio."+name+
		".example.com\nOPENEDX_RELEASE: open-release/redwood.3\nPLATFORM_NAME: "+name+"\n")
	add("instances/"+name+"/grove.yml", "COMPREHENSIVE_THEME_NAME: "+name+"-theme\n")
}

// newCommit stores a commit on top of parent, which may be nil.
func (s *Server) newCommit(r *repository, parents []*commit, author *user, message string, changes map[string]*string) *commit {
	s.ids.commit++
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", s.opts.Seed, s.ids.commit, message))
	c := &commit{
		id: hex.EncodeToString(sum[:20]), parents: parents, message: message, author: author, at: s.at, changes: changes,
	}
	r.commits[c.id] = c
	r.log = append(r.log, c)
	return c
}

// treesKept bounds how many commits keep their whole tree, so that a long history stays small.
const treesKept = 8

// tree returns all files of a commit.
func (r *repository) tree(c *commit) map[string]string {
	if c.files != nil {
		return c.files
	}
	var line []*commit
	base := c
	for base.files == nil {
		line = append(line, base)
		if len(base.parents) == 0 {
			break
		}
		base = base.parents[0]
	}
	files := maps.Clone(base.files)
	if files == nil {
		files = map[string]string{}
	}
	for _, x := range slices.Backward(line) {
		for path, content := range x.changes {
			if content == nil {
				delete(files, path)
			} else {
				files[path] = *content
			}
		}
	}
	c.files = files
	r.kept = append(r.kept, c)
	if len(r.kept) > treesKept {
		r.kept[0].files = nil
		r.kept = r.kept[1:]
	}
	return files
}

// lastChange is the newest commit at or before c that touched a path.
func (c *commit) lastChange(path string) *commit {
	for x := c; ; x = x.parents[0] {
		if _, ok := x.changes[path]; ok || len(x.parents) == 0 {
			return x
		}
	}
}

// title is the first line of the message.
func (c *commit) title() string {
	first, _, _ := strings.Cut(c.message, "\n")
	return first
}

// resolve finds a branch, tag or commit; an empty ref is the default branch.
func (p *project) resolve(ref string) *commit {
	if ref == "" || ref == "HEAD" {
		ref = p.DefaultBranch
	}
	if c := p.repo.branches[ref]; c != nil {
		return c
	}
	return p.repo.commits[ref]
}

// blobID is the identifier git would give a text, as far as this simulation is concerned.
func blobID(content string) string {
	sum := sha256.Sum256([]byte("blob " + content))
	return hex.EncodeToString(sum[:20])
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// SetFile commits a change of one file to the default branch without a pipeline; a nil content
// deletes it.
func (s *Server) SetFile(projectID int64, path string, content *string) {
	s.do(func() {
		p := s.projects[projectID]
		if p == nil {
			return
		}
		head := p.repo.branches[p.DefaultBranch]
		p.repo.branches[p.DefaultBranch] = s.newCommit(p.repo, []*commit{head}, p.owner, "Change "+path,
			map[string]*string{path: content})
	})
}

// AddBranch makes a branch, or a tag, at the head of the default branch.
func (s *Server) AddBranch(projectID int64, name string) {
	s.do(func() {
		if p := s.projects[projectID]; p != nil {
			p.repo.branches[name] = p.repo.branches[p.DefaultBranch]
		}
	})
}
