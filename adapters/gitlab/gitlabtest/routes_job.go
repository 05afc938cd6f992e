package gitlabtest

import "net/http"

// jobOf finds the job of the path. Bridges are jobs of the pipeline but not of this API.
func (c *call) jobOf() (*job, *reply) {
	id, _ := parseID(c.path["job_id"])
	j := c.jobs[id]
	if j == nil || j.pipeline.project != c.project || j.bridge() {
		return nil, missingRecord()
	}
	return j, nil
}

// getJob is GET projects/:id/jobs/:job_id.
func getJob(c *call) *reply {
	j, refused := c.jobOf()
	if refused != nil {
		return refused
	}
	return ok(c.fullJobEntity(j))
}

// getTrace is GET projects/:id/jobs/:job_id/trace: the whole log so far as plain text.
func getTrace(c *call) *reply {
	j, refused := c.jobOf()
	if refused != nil {
		return refused
	}
	return ok(c.trace(j))
}

// playJob is POST projects/:id/jobs/:job_id/play (GitLab: lib/api/ci/jobs.rb).
func playJob(c *call) *reply {
	j, refused := c.jobOf()
	if refused != nil {
		return refused
	}
	if j.status != stManual || j.retried {
		return message(http.StatusBadRequest, "400 Bad request - Unplayable Job")
	}
	c.playJob(j)
	return ok(c.jobEntity(j))
}

// cancelJob is POST projects/:id/jobs/:job_id/cancel.
func cancelJob(c *call) *reply {
	j, refused := c.jobOf()
	if refused != nil {
		return refused
	}
	if !j.cancelable() {
		return forbidden("Job is not cancelable")
	}
	c.cancelJob(j, true)
	c.settle(j.pipeline)
	return &reply{status: http.StatusCreated, body: c.fullJobEntity(j)}
}

// retryJob is POST projects/:id/jobs/:job_id/retry, which answers with a new job.
func retryJob(c *call) *reply {
	j, refused := c.jobOf()
	if refused != nil {
		return refused
	}
	if !j.retryable() {
		return forbidden("Job is not retryable")
	}
	again := c.retryJob(j)
	c.settle(j.pipeline)
	return &reply{status: http.StatusCreated, body: c.fullJobEntity(again), job: again.id}
}
