package config

import "time"

// defaultOperations is the table of operations before the file is laid over it.
//
// deploy updates and redeploys an instance that exists. NEW_INSTANCE_TRIGGER is what Ocim v2 sent
// to Grove for every deployment of an instance, new or not (opencraft,
// grove/models/mixins/payload.py); Grove's own documentation knows only a commit title for it.
// Hence the row is unverified. The request's own pipeline opens and merges a merge request, and the
// merge commit starts the pipelines that deploy, which is what follow describes.
func defaultOperations() map[string]Operation {
	return map[string]Operation{
		"deploy": {
			Start: StartTrigger,
			Variables: map[string]string{
				"INSTANCE_NAME":         "{instance}",
				"DEPLOYMENT_REQUEST_ID": "{number}",
				"NEW_INSTANCE_TRIGGER":  "1",
			},
			Follow:       FollowMergeRequest,
			FollowWithin: defaultFollowWithin,
			Unverified:   true,
		},
	}
}

// defaultFollowWithin is ample for the merge, which takes seconds, and short enough that a run
// that merged nothing is reported while people still look.
const defaultFollowWithin = 5 * time.Minute

// blankOperation is what a verb without a row of its own begins from.
func blankOperation() Operation {
	return Operation{Start: StartTrigger, Follow: FollowNone, FollowWithin: defaultFollowWithin}
}
