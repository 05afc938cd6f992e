package gitlab

import (
	"context"
	"fmt"
	"net/http"

	"ocim/internal/crash"
	"ocim/ops"
)

// Cancel implements [ops.Pipelines]. GitLab answers 200 also when nothing could be canceled.
// Source: GitLab lib/api/ci/pipelines.rb.
func (a *Adapter) Cancel(ctx context.Context, r ops.PipelineRef) error {
	p, err := a.project(r.Project)
	if err != nil {
		return err
	}
	if p.WriteToken.Empty() {
		return missingToken(p, "write_token", "cancel pipelines")
	}
	crash.Point("gitlab.cancel.before")
	_, err = a.call(ctx, p, request{
		kind: kindCancel, method: http.MethodPost, path: p.path("pipelines", r.ID, "cancel"), token: p.WriteToken,
		doing: fmt.Sprintf("cancel pipeline %d of project %s", r.ID, p.name), missing: ops.ReasonPipelineDeleted,
	})
	crash.Point("gitlab.cancel.after")
	return err
}
