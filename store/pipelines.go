package store

import (
	"database/sql"

	"ocim/ops"
)

const selectPipelines = `SELECT project, pipeline_id, role, parent, bridge, allow_failure, source, status,
	git_ref, sha, url, created_at, updated_at, started_at, finished_at, yaml_errors, jobs
	FROM pipelines WHERE op = $1 AND run = $2 ORDER BY place`

// pipelines returns those of one run, in the order in which they were stored.
func (r *reader) pipelines(nr int64, run int) ([]ops.Pipeline, error) {
	var ps []ops.Pipeline
	err := r.c.each(func(rows *sql.Rows) error {
		var p ops.Pipeline
		var jobs string
		err := rows.Scan(
			&p.Ref.Project, &p.Ref.ID, &p.Role, &p.Parent, &p.Bridge, &p.AllowFailure, &p.Source, &p.Status,
			&p.GitRef, &p.SHA, &p.URL, at{&p.CreatedAt}, at{&p.UpdatedAt}, at{&p.StartedAt}, at{&p.FinishedAt}, &p.YAMLErrors, &jobs)
		if err == nil {
			err = fromJSON(jobs, &p.Jobs)
		}
		ps = append(ps, p)
		return err
	}, selectPipelines, nr, int64(run))
	return ps, err
}

const putPipeline = `INSERT INTO pipelines (
	op, project, pipeline_id, run, place, role, parent, bridge, allow_failure, source, status,
	git_ref, sha, url, created_at, updated_at, started_at, finished_at, yaml_errors, jobs)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
	ON CONFLICT (op, project, pipeline_id) DO UPDATE SET
	run = excluded.run, place = excluded.place, role = excluded.role, parent = excluded.parent,
	bridge = excluded.bridge, allow_failure = excluded.allow_failure, source = excluded.source, status = excluded.status,
	git_ref = excluded.git_ref, sha = excluded.sha, url = excluded.url,
	created_at = excluded.created_at, updated_at = excluded.updated_at,
	started_at = excluded.started_at, finished_at = excluded.finished_at,
	yaml_errors = excluded.yaml_errors, jobs = excluded.jobs`

func (t *tx) putPipeline(nr int64, run, place int, p ops.Pipeline) error {
	jobs, err := toJSON(p.Jobs, p.Jobs == ops.Jobs{})
	if err != nil {
		return t.doom(err)
	}
	_, err = t.exec(putPipeline,
		nr, p.Ref.Project, p.Ref.ID, int64(run), int64(place), string(p.Role), p.Parent, p.Bridge, p.AllowFailure, p.Source, p.Status,
		p.GitRef, p.SHA, p.URL, micros(p.CreatedAt), micros(p.UpdatedAt), micros(p.StartedAt), micros(p.FinishedAt), p.YAMLErrors, jobs)
	return err
}

// movePipelines writes what differs from the stored pipelines of the operation's current run. A
// pipeline of an earlier run that is named again moves into this one.
func (t *tx) movePipelines(nr int64, op ops.Operation) error {
	old, err := t.pipelines(nr, op.Run)
	if err != nil {
		return err
	}
	for i, p := range op.Pipelines {
		if i < len(old) && samePipeline(old[i], p) {
			continue
		}
		if err := t.putPipeline(nr, op.Run, i, p); err != nil {
			return err
		}
	}
	for _, gone := range old {
		if named(op.Pipelines, gone.Ref) {
			continue
		}
		_, err := t.exec(`DELETE FROM pipelines WHERE op = $1 AND project = $2 AND pipeline_id = $3`,
			nr, gone.Ref.Project, gone.Ref.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

func named(ps []ops.Pipeline, ref ops.PipelineRef) bool {
	for _, p := range ps {
		if p.Ref == ref {
			return true
		}
	}
	return false
}

// samePipeline compares as the database does: instants by their microsecond.
func samePipeline(a, b ops.Pipeline) bool {
	for _, p := range []*ops.Pipeline{&a, &b} {
		p.CreatedAt, p.UpdatedAt = instant(micros(p.CreatedAt)), instant(micros(p.UpdatedAt))
		p.StartedAt, p.FinishedAt = instant(micros(p.StartedAt)), instant(micros(p.FinishedAt))
	}
	return a == b
}
