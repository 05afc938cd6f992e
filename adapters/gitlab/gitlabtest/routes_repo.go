package gitlabtest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// treeEntry is a row of a tree.
type treeEntry struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
	Path string `json:"path"`
	Mode string `json:"mode"`
}

// getTree is GET projects/:id/repository/tree, directories first.
func getTree(c *call) *reply {
	q := c.query()
	recursive := q.boolean("recursive")
	mode := q.oneOf("pagination", "legacy", "keyset", "none")
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	at := c.project.resolve(q.str("ref"))
	if at == nil {
		return notFound("Tree")
	}
	all := entriesOf(c.project.repo.tree(at), strings.Trim(q.str("path"), "/"), recursive)
	if len(all) == 0 && q.str("path") != "" {
		return notFound("invalid revision or path")
	}
	if mode != "keyset" {
		part, header := cut(c, pg, all)
		return &reply{status: http.StatusOK, body: part, header: header}
	}
	from := 0
	if token := q.str("page_token"); token != "" {
		i := slices.IndexFunc(all, func(e treeEntry) bool { return e.ID == token })
		if i < 0 {
			return notFound("Tree")
		}
		from = i + 1
	}
	part := all[from:min(from+pg.size, len(all))]
	header := http.Header{}
	header.Set("X-Per-Page", strconv.Itoa(pg.size))
	if from+len(part) < len(all) {
		next := c.r.URL.Query()
		next.Set("page_token", part[len(part)-1].ID)
		header.Set("Link", c.link(next, "next"))
	}
	return &reply{status: http.StatusOK, body: part, header: header}
}

// entriesOf are the rows below a directory; an empty one is the root.
func entriesOf(files map[string]string, dir string, recursive bool) []treeEntry {
	prefix := ""
	if dir != "" {
		prefix = dir + "/"
	}
	rows := map[string]treeEntry{}
	for path, content := range files {
		rest, below := strings.CutPrefix(path, prefix)
		if !below {
			continue
		}
		parts := strings.Split(rest, "/")
		for i := 1; i < len(parts) && (recursive || i == 1); i++ {
			sub := prefix + strings.Join(parts[:i], "/")
			rows[sub] = treeEntry{ID: blobID("tree " + sub), Name: parts[i-1], Type: "tree", Path: sub, Mode: "040000"}
		}
		if len(parts) == 1 || recursive {
			rows[path] = treeEntry{
				ID: blobID(path + "\x00" + content), Name: parts[len(parts)-1], Type: "blob", Path: path, Mode: "100644",
			}
		}
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b treeEntry) int {
		if a.Type != b.Type {
			return -strings.Compare(a.Type, b.Type)
		}
		return strings.Compare(a.Path, b.Path)
	})
}

// fileOf finds a file and the commit it is read at.
func (c *call) fileOf() (path, content string, at *commit, refused *reply) {
	at = c.project.resolve(text(c.params["ref"]))
	if at == nil {
		return "", "", nil, notFound("Commit")
	}
	path = c.path["file_path"]
	content, exists := c.project.repo.tree(at)[path]
	if !exists {
		return "", "", nil, notFound("File")
	}
	return path, content, at, nil
}

// getFile is GET projects/:id/repository/files/:path; ref is required there.
func getFile(c *call) *reply {
	if _, given := c.params["ref"]; !given {
		return grape("ref is missing")
	}
	path, content, at, refused := c.fileOf()
	if refused != nil {
		return refused
	}
	sum := sha256.Sum256([]byte(content))
	last := at.lastChange(path).id
	header := http.Header{}
	for name, value := range map[string]string{
		"File-Name": lastPart(path), "File-Path": path, "Size": strconv.Itoa(len(content)), "Encoding": "base64",
		"Content-Sha256": hex.EncodeToString(sum[:]), "Ref": text(c.params["ref"]), "Blob-Id": blobID(content),
		"Commit-Id": at.id, "Last-Commit-Id": last, "Execute-Filemode": "false",
	} {
		header.Set("X-Gitlab-"+name, value)
	}
	return &reply{status: http.StatusOK, header: header, body: object{
		"file_name": lastPart(path), "file_path": path, "size": len(content), "encoding": "base64",
		"content_sha256": hex.EncodeToString(sum[:]), "ref": text(c.params["ref"]), "blob_id": blobID(content),
		"commit_id": at.id, "last_commit_id": last, "execute_filemode": false,
		"content": base64.StdEncoding.EncodeToString([]byte(content)),
	}}
}

// getRawFile is GET projects/:id/repository/files/:path/raw; without ref it is the default branch.
func getRawFile(c *call) *reply {
	path, content, at, refused := c.fileOf()
	if refused != nil {
		return refused
	}
	header := http.Header{}
	header.Set("X-Gitlab-Blob-Id", blobID(content))
	header.Set("X-Gitlab-Commit-Id", at.id)
	header.Set("X-Gitlab-Last-Commit-Id", at.lastChange(path).id)
	return &reply{status: http.StatusOK, header: header, body: content}
}

// listCommits is GET projects/:id/repository/commits, newest first.
func listCommits(c *call) *reply {
	q := c.query()
	since, until := q.instant("since"), q.instant("until")
	path, author := q.str("path"), q.str("author")
	all := q.boolean("all")
	pg := c.page(q)
	if refused := q.refusal(); refused != nil {
		return refused
	}
	at := c.project.resolve(q.str("ref_name"))
	if at == nil {
		return ok([]commitEntity{})
	}
	seen := at.reach()
	var found []*commit
	for _, x := range slices.Backward(c.project.repo.log) {
		if !all && !seen[x] || !since.IsZero() && x.at.Before(since) || !until.IsZero() && x.at.After(until) ||
			author != "" && !strings.Contains(x.author.name+" "+email(x.author), author) || path != "" && !x.touches(path) {
			continue
		}
		found = append(found, x)
	}
	part, header := cut(c, pg, found)
	header.Del("X-Total") // GitLab does not count commits
	header.Del("X-Total-Pages")
	entities := make([]commitEntity, len(part))
	for i, x := range part {
		entities[i] = c.commitEntity(c.project, x)
	}
	return &reply{status: http.StatusOK, body: entities, header: header}
}

// reach is the set of commits that a commit has as ancestors, itself included.
func (c *commit) reach() map[*commit]bool {
	seen := map[*commit]bool{}
	todo := []*commit{c}
	for len(todo) > 0 {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if x == nil || seen[x] {
			continue
		}
		seen[x] = true
		todo = append(todo, x.parents...)
	}
	return seen
}

// touches says whether a commit changed a file or something below a directory.
func (c *commit) touches(path string) bool {
	for p := range c.changes {
		if p == path || strings.HasPrefix(p, strings.TrimSuffix(path, "/")+"/") {
			return true
		}
	}
	return false
}

// getCommit is GET projects/:id/repository/commits/:sha, by id, branch or tag.
func getCommit(c *call) *reply {
	x := c.project.resolve(c.path["sha"])
	if x == nil {
		return notFound("Commit")
	}
	return ok(c.commitDetail(x))
}

// commitDetailEntity is a commit with what is known about its pipelines.
type commitDetailEntity struct {
	commitEntity

	Stats        map[string]int  `json:"stats"`
	Status       *string         `json:"status"`
	ProjectID    int64           `json:"project_id"`
	LastPipeline *pipelineEntity `json:"last_pipeline"`
}

func (c *call) commitDetail(x *commit) commitDetailEntity {
	e := commitDetailEntity{commitEntity: c.commitEntity(c.project, x), ProjectID: c.project.ID}
	e.Stats = map[string]int{"additions": 0, "deletions": 0}
	for _, content := range x.changes {
		if content != nil {
			e.Stats["additions"] += strings.Count(*content, "\n")
		} else {
			e.Stats["deletions"]++
		}
	}
	e.Stats["total"] = e.Stats["additions"] + e.Stats["deletions"]
	for _, p := range slices.Backward(c.project.pipelines) {
		if p.sha == x.id && p.source != "parent_pipeline" {
			last := c.pipelineEntity(p, p.moment)
			e.LastPipeline, e.Status = &last, &last.Status
			break
		}
	}
	return e
}

// createCommit is POST projects/:id/repository/commits (GitLab: lib/api/commits.rb,
// app/services/files/multi_service.rb). On a Grove project a commit on the default branch starts a
// pipeline, unless its message says [skip ci].
func createCommit(c *call) *reply {
	var wrong []string
	for _, name := range []string{"branch", "commit_message", "actions"} {
		if _, given := c.params[name]; !given {
			wrong = append(wrong, name+" is missing")
		}
	}
	if len(wrong) > 0 {
		return grape(strings.Join(wrong, ", "))
	}
	p, branch := c.project, text(c.params["branch"])
	if p.MaintainersOnly && branch == p.DefaultBranch && c.role < Maintainer {
		return forbidden("You are not allowed to push into this branch")
	}
	head := p.repo.branches[branch]
	start := text(c.params["start_branch"])
	switch {
	case head != nil && start != "" && start != branch:
		return message(http.StatusBadRequest, fmt.Sprintf(
			"A branch called '%s' already exists. Switch to that branch in order to make changes", branch))
	case head == nil && start == "":
		return message(http.StatusBadRequest, "You can only create or edit files when you are on a branch")
	case head == nil:
		if head = p.repo.branches[start]; head == nil {
			return message(http.StatusBadRequest, "Could not find a branch called '"+start+"'")
		}
	}
	list, _ := c.params["actions"].([]any)
	changes, refused := apply(p.repo.tree(head), head, list)
	if refused != nil {
		return refused
	}
	x := c.newCommit(p.repo, []*commit{head}, c.token.user, text(c.params["commit_message"]), changes)
	p.repo.branches[branch] = x
	c.queuePushHook(p, branch, x, c.token.user)
	if branch == p.DefaultBranch && p.Behaviour.grove && !strings.Contains(x.message, "[skip ci]") {
		r := request{project: p, ref: branch, source: "push", user: c.token.user, commit: x}
		r.script, r.story = c.plan(p, "push", x, nil)
		c.newPipeline(r)
	}
	return &reply{status: http.StatusCreated, body: c.commitDetail(x)}
}

// apply turns the actions of a commit into changes.
func apply(files map[string]string, head *commit, list []any) (map[string]*string, *reply) {
	changes := map[string]*string{}
	for _, one := range list {
		a, _ := one.(map[string]any)
		path, action := text(a["file_path"]), text(a["action"])
		content := text(a["content"])
		if text(a["encoding"]) == "base64" {
			raw, err := base64.StdEncoding.DecodeString(content)
			if err != nil {
				return nil, grape("actions[0][content] is invalid")
			}
			content = string(raw)
		}
		target := path
		if action == "move" {
			target = text(a["previous_path"])
		}
		_, exists := files[target]
		last := text(a["last_commit_id"])
		switch {
		case action == "create" && exists:
			return nil, message(http.StatusBadRequest, "A file with this name already exists")
		case action != "create" && !exists:
			return nil, message(http.StatusBadRequest, "A file with this name doesn't exist")
		case action != "create" && last != "" && last != head.lastChange(target).id:
			return nil, message(http.StatusBadRequest, "The file has changed since you started editing it: "+target)
		}
		switch action {
		case "create", "update":
			changes[path] = &content
		case "delete":
			changes[path] = nil
		case "move":
			moved := files[target]
			if a["content"] != nil {
				moved = content
			}
			changes[target], changes[path] = nil, &moved
		case "chmod":
		default:
			return nil, grape("actions[0][action] does not have a valid value")
		}
	}
	return changes, nil
}
