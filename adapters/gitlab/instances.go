package gitlab

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	gl "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/ops"
)

// maxTreePages bounds the entries of a folder that are read: 5,000.
const maxTreePages = 50

type treeJSON struct {
	Name string `json:"name"`
	Type string `json:"type"` // tree, blob or commit
}

// Instances implements [ops.Repos]: the names of the folders directly below folder, sorted. A folder
// that is not there is CodeNotFound, as is a project that the token may not see: GitLab answers 404
// to both (doc/api/repositories.md).
func (a *Adapter) Instances(ctx context.Context, name, folder string) ([]string, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	p, err := a.project(name)
	if err != nil {
		return nil, err
	}
	opts := &gl.ListTreeOptions{ListOptions: gl.ListOptions{PerPage: perPage, Pagination: "keyset"}}
	if folder = strings.Trim(folder, "/"); folder != "" {
		opts.Path = new(folder)
	}
	if p.Ref != "" {
		opts.Ref = new(p.Ref)
	}
	var names []string
	complete, err := list(ctx, a, p, request{
		method: http.MethodGet, path: p.path("repository", "tree"), opts: opts, token: p.Token,
		doing:   fmt.Sprintf("read the folder %s of project %s", clip(folder, 100), p.name),
		missing: ops.ReasonGitLabDenied,
	}, maxTreePages, func(page []treeJSON) bool {
		for _, e := range page {
			if e.Type == "tree" && e.Name != "" && len(e.Name) <= 255 {
				names = append(names, e.Name)
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if !complete {
		a.log.WarnContext(ctx, "a folder has more entries than ocim reads", "project", p.name, "folder", folder, "read", len(names))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
