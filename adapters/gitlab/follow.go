package gitlab

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	gl "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/ops"
)

// maxTitleReads bounds the commits that one look reads to find the pipeline of a merge. What was
// read is remembered, so that the next look gets further.
const maxTitleReads = 20

// follow adds the pipelines that the root's merge request started. Grove's root pipeline pushes the
// branch deployment/<instance>/<number> and merges it; the merge starts a push pipeline.
func (w *walk) follow(ctx context.Context, p *project, root pipelineJSON) error {
	if root.StartedAt.IsZero() && !ops.PipelineFinal(root.Status) {
		return nil // it has not done anything yet
	}
	mr, err := w.mergeRequest(ctx, p)
	if err != nil {
		return err
	}
	branch := root.Ref
	var landed string
	if mr != nil {
		w.out.MergeRequest = &ops.MergeRequest{IID: mr.IID, State: clip(mr.State, 50), URL: webURL(mr.WebURL), MergedAt: mr.MergedAt.Time}
		branch, landed = cmp.Or(mr.TargetBranch, branch), mr.landed()
	}
	found, err := w.byCommit(ctx, p, branch, landed)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if found, err = w.byTitle(ctx, p, root, branch); err != nil {
			return err
		}
	}
	for _, k := range w.spec.Known {
		// Once a pipeline belongs to the operation, it stays.
		if k.Role == ops.RoleFollow && !slices.ContainsFunc(found, func(j pipelineJSON) bool { return j.ID == k.Ref.ID }) {
			found = append(found, pipelineJSON{ID: k.Ref.ID})
		}
	}
	slices.SortFunc(found, func(x, y pipelineJSON) int { return cmp.Compare(x.ID, y.ID) })
	for _, f := range found {
		if w.seen[f.ID] {
			continue
		}
		// Lists lack started_at and yaml_errors.
		j, err := w.a.pipeline(ctx, p, f.ID)
		if code := ops.CodeOf(err); err != nil && code == ops.CodeNotFound {
			continue // deleted, or not to be seen yet
		}
		if err != nil {
			return err
		}
		if err := w.visit(ctx, p, j, ops.Pipeline{Role: ops.RoleFollow}, 0); err != nil {
			return err
		}
	}
	return nil
}

// mergeRequest finds the merge request of the operation; a merged one goes before others, then the
// newest. Those from forks are ignored: anybody can make one with our branch's name.
func (w *walk) mergeRequest(ctx context.Context, p *project) (*mergeRequestJSON, error) {
	var best *mergeRequestJSON
	branch := fmt.Sprintf("deployment/%s/%d", w.spec.Target.Instance, w.spec.Number)
	_, err := list(ctx, w.a, p, request{
		method: http.MethodGet, path: p.path("merge_requests"), token: p.Token,
		opts: &gl.ListProjectMergeRequestsOptions{
			ListOptions: gl.ListOptions{PerPage: 20}, SourceBranch: new(branch),
		},
		doing: "find the merge request of " + branch, missing: ops.ReasonGitLabDenied,
	}, 1, func(page []mergeRequestJSON) bool {
		for i, m := range page {
			switch {
			case m.SourceProjectID != 0 && m.SourceProjectID != p.ID:
			case best == nil, m.State == "merged" && best.State != "merged",
				(m.State == "merged") == (best.State == "merged") && m.IID > best.IID:
				best = &page[i]
			}
		}
		return false
	})
	return best, err
}

// byCommit lists the push pipelines of the commit that the merge made. Others may run on the same
// commit, as the first pipeline of the next deployment does.
func (w *walk) byCommit(ctx context.Context, p *project, branch, sha string) ([]pipelineJSON, error) {
	if !isSHA(sha) {
		return nil, nil
	}
	all, _, err := w.a.pipelines(ctx, p, &gl.ListProjectPipelinesOptions{
		ListOptions: gl.ListOptions{PerPage: perPage}, SHA: new(sha), Source: new("push"),
	}, 1)
	return w.pushes(all, branch), err
}

// byTitle looks through the push pipelines since the root for a commit whose title names the
// operation, for merges whose request is gone and for commits made without one.
func (w *walk) byTitle(ctx context.Context, p *project, root pipelineJSON, branch string) ([]pipelineJSON, error) {
	opts := &gl.ListProjectPipelinesOptions{
		ListOptions: gl.ListOptions{PerPage: perPage}, Source: new("push"), Ref: new(branch),
		OrderBy: new("id"), Sort: new("asc"),
	}
	if !root.CreatedAt.IsZero() {
		opts.CreatedAfter = new(root.CreatedAt.Time)
	}
	all, _, err := w.a.pipelines(ctx, p, opts, 1)
	if err != nil {
		return nil, err
	}
	var found []pipelineJSON
	reads := 0
	for _, j := range w.pushes(all, branch) {
		if j.ID < root.ID || !isSHA(j.SHA) {
			continue
		}
		id := commitID{p.host.origin, p.ID, j.SHA}
		named, known := w.a.titles.get(id)
		if !known {
			if reads++; reads > maxTitleReads {
				break
			}
			if named, err = w.a.title(ctx, p, id); err != nil {
				return nil, err
			}
		}
		if slices.Contains(named, mention{w.spec.Target.Instance, w.spec.Number}) {
			found = append(found, j)
		}
	}
	return found, nil
}

// pushes keeps what GitLab's filters should have kept; an older GitLab ignores those it does not know.
func (w *walk) pushes(all []pipelineJSON, branch string) []pipelineJSON {
	return slices.DeleteFunc(all, func(j pipelineJSON) bool {
		return j.Source != "push" || j.Ref != branch || j.ID <= w.spec.Root.ID
	})
}

// title reads whom a commit concerns, and remembers it.
func (a *Adapter) title(ctx context.Context, p *project, id commitID) ([]mention, error) {
	var got struct {
		Message string `json:"message"`
	}
	_, err := a.call(ctx, p, request{
		method: http.MethodGet, path: p.path("repository", "commits", id.sha), token: p.Token, out: &got,
		doing: "read commit " + id.sha[:8], missing: ops.ReasonGitLabDenied,
	})
	if ops.CodeOf(err) == ops.CodeNotFound {
		return nil, nil // not to be seen yet
	}
	if err != nil {
		return nil, err
	}
	named := mentions(got.Message)
	a.titles.put(id, named)
	return named, nil
}
