package gitlab

import (
	"strconv"
	"strings"
)

// maxMentions bounds the deployments that one commit title can concern.
const maxMentions = 50

// mention is a deployment that a commit title names.
type mention struct {
	Instance string
	Number   int64 // 0 if the title names none
}

// mentions reads the first line of a commit message in the forms that Grove uses: the merge of a
// branch deployment/<instance>/<number>, [AutoDeploy][Create] name|id,name|id, and the older
// [AutoDeploy] name:id - message. Only the message's first line counts: GitLab cuts titles at 80
// characters. Source: Grove's documentation, pipelines and discoveries/0002.
func mentions(message string) []mention {
	line, _, _ := strings.Cut(message, "\n")
	line = strings.TrimSpace(line)
	if len(line) > 4096 {
		line = line[:4096]
	}
	if rest, ok := strings.CutPrefix(line, "Merge branch 'deployment/"); ok {
		branch, _, ok := strings.Cut(rest, "'")
		instance, number, slash := strings.Cut(branch, "/")
		if n, valid := number64(number); ok && slash && valid && instance != "" {
			return []mention{{Instance: instance, Number: n}}
		}
		return nil
	}
	rest, ok := strings.CutPrefix(line, "[AutoDeploy]")
	if !ok {
		return nil
	}
	if verb, names, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(verb, "[") {
		switch strings.ToLower(verb[1:]) {
		case "create", "update", "archive", "delete":
			return listed(names)
		}
		return nil
	}
	name, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	instance, number, ok := strings.Cut(name, ":")
	if n, valid := number64(number); ok && valid && instance != "" {
		return []mention{{Instance: instance, Number: n}}
	}
	return nil
}

// listed reads name|id,name|id, where the ids may be missing.
func listed(s string) []mention {
	var all []mention
	for part := range strings.SplitSeq(s, ",") {
		if len(all) == maxMentions {
			break
		}
		name, number, _ := strings.Cut(strings.TrimSpace(part), "|")
		name = strings.TrimSpace(name)
		if name == "" || strings.ContainsAny(name, " /") {
			continue
		}
		n, _ := number64(strings.TrimSpace(number))
		all = append(all, mention{Instance: name, Number: n})
	}
	return all
}

// number64 reads a DEPLOYMENT_REQUEST_ID: decimal and above zero.
func number64(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || s[0] == '+' {
		return 0, false
	}
	return n, true
}
