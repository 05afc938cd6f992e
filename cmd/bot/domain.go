package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"ocim/adapters/gitlab"
	"ocim/config"
	"ocim/ops"
)

// projects turns the configuration's table of operations into the domain's actions.
func projects(cfg *config.Config) ([]ops.Project, error) {
	var out []ops.Project
	for _, p := range cfg.Projects {
		table := map[string]config.Operation{}
		maps.Copy(table, cfg.Operations)
		maps.Copy(table, p.Operations)
		actions := map[string]ops.Action{}
		for verb, op := range table {
			a, err := action(verb, op)
			if err != nil {
				return nil, fmt.Errorf("project %s: %w", p.Name, err)
			}
			actions[verb] = a
		}
		out = append(out, ops.Project{Name: p.Name, GitRef: p.Ref, Actions: actions})
	}
	return out, nil
}

func action(verb string, op config.Operation) (ops.Action, error) {
	a := ops.Action{
		Verb: verb, Start: ops.Start(op.Start), Variables: op.Variables, Inputs: op.Inputs, Payload: op.Payload,
		Follow: ops.Follow(op.Follow), FollowWithin: op.FollowWithin, KeyVariable: op.KeyVariable, KeyInput: op.KeyInput,
		Unverified: op.Unverified,
	}
	for _, p := range op.Params {
		pattern, err := p.Regexp()
		if err != nil {
			return a, fmt.Errorf("%s: %w", verb, err)
		}
		into, field, _ := strings.Cut(p.To, ":")
		a.Params = append(a.Params, ops.ActionParam{
			Name: p.Name, Into: ops.ParamPlace(into), Field: field, Type: ops.ParamType(p.Type), Pattern: pattern,
			Choices: p.Choices, Required: p.Required, Default: p.Default, Help: p.Help, Secret: p.Secret,
		})
	}
	return a, nil
}

func clusters(cfg *config.Config) []ops.Cluster {
	var out []ops.Cluster
	for _, c := range cfg.Clusters {
		out = append(out, ops.Cluster{Name: c.Name, Project: c.Project, Instances: slices.Clone(c.Instances), Folder: c.InstancesFrom})
	}
	return out
}

func policy(cfg *config.Config) *ops.StaticPolicy {
	p := ops.NewStaticPolicy()
	allow := func(platform, workspace string, may config.May) {
		p.Allow(platform, workspace, ops.MayStart, may.Start...)
		p.Allow(platform, workspace, ops.MayCancel, may.Cancel...)
		p.Allow(platform, workspace, ops.MayRetry, may.Retry...)
	}
	for _, s := range cfg.Slack {
		allow("slack", s.Workspace, s.May)
	}
	for _, m := range cfg.Mattermost {
		allow("mattermost", m.Name, m.May)
	}
	return p
}

// gitlabProjects gives the adapter addresses and tokens, which the domain never sees.
func gitlabProjects(cfg *config.Config) map[string]gitlab.Project {
	out := map[string]gitlab.Project{}
	for _, p := range cfg.Projects {
		i := slices.IndexFunc(cfg.GitLab, func(g config.GitLab) bool { return g.Name == p.GitLab })
		out[p.Name] = gitlab.Project{
			BaseURL: cfg.GitLab[i].URL, ID: p.ID, Ref: p.Ref,
			Token: p.Token, WriteToken: p.WriteToken, TriggerToken: p.TriggerToken,
		}
	}
	return out
}

// gitlabRates are the calls per second to each GitLab, by its address. Two entries with the same
// address share one allowance, the smaller.
func gitlabRates(cfg *config.Config) map[string]float64 {
	out := map[string]float64{}
	for _, g := range cfg.GitLab {
		if r, known := out[g.URL]; !known || float64(g.Rate) < r {
			out[g.URL] = float64(g.Rate)
		}
	}
	return out
}

func hookHosts(cfg *config.Config) []gitlab.HookHost {
	var out []gitlab.HookHost
	for _, g := range cfg.GitLab {
		out = append(out, gitlab.HookHost{BaseURL: g.URL, Tokens: g.WebhookTokens, SigningTokens: g.WebhookSigningTokens})
	}
	return out
}
