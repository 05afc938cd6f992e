package redact

import (
	"regexp"
	"strings"
)

// nameParts are the parts of a name that make its value a secret.
const nameParts = `passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|signing[_-]?key|encryption[_-]?key|credential`

// nameEnd is the rest of such a name. It does not end with a full stop: what is before "token.:" is a
// sentence, and what follows is no secret.
const nameEnd = `(?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?`

// pattern is one kind of secret. It is tried only on lines that hold one of its hints, since a
// search for fixed words is far cheaper than the expression. Expressions run in linear time.
type pattern struct {
	hints   []string // in lowercase
	expr    *regexp.Regexp
	replace string
}

var (
	// A block may be cut off at either end, when the text is the tail of a log.
	pemBlock = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]+-----(?s:.*?)(?:-----END [A-Z0-9 ]+-----|\z)`)
	pemTail  = regexp.MustCompile(`(?:[A-Za-z0-9+/=]{16,}(?:\r?\n|\\n))*[A-Za-z0-9+/=]{4,}(?:\r?\n|\\n)-----END [A-Z0-9 ]+-----`)

	linePatterns = []pattern{ //nolint:gochecknoglobals // compiled once
		{ // GitLab: lib/authn/token_field/generator and doc/security/tokens, "Token prefixes".
			[]string{"glpat-", "glptt-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glsoat-", "gloas-", "glft-", "glimt-", "glagent-", "glffct-", "glwt-"},
			regexp.MustCompile(`gl(?:pat|ptt|dt|rtr?|cbt|soat|oas|ft|imt|agent|ffct|wt)-[A-Za-z0-9_.=-]{8,}`), Mask,
		},
		{ // Slack: bot, user, legacy, refresh and rotated tokens; app-level tokens.
			[]string{"xox", "xapp-"},
			regexp.MustCompile(`xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}`), Mask,
		},
		{[]string{"whsec_"}, regexp.MustCompile(`whsec_[A-Za-z0-9+/=_-]{8,}`), Mask},
		{
			[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "dop_v1_", "doo_v1_", "dor_v1_"},
			regexp.MustCompile(`gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|do[opr]_v1_[A-Za-z0-9]{16,}`), Mask,
		},
		{[]string{"akia", "asia"}, regexp.MustCompile(`(?:AKIA|ASIA)[A-Z0-9]{16}`), Mask},
		{[]string{"eyj"}, regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)*`), Mask},
		{ // Up to the last @ before the path, since people put an @ into passwords.
			[]string{"://"},
			regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@:]*:[^\s/]*@`), "${1}" + Mask + "@",
		},
		{
			[]string{"authorization", "cookie"},
			regexp.MustCompile(`(?i)((?:proxy-)?authorization|(?:set-)?cookie)(\\*["']?\s*[:=]\s*)(?:"[^"]*"|'[^']*'|\[[^\]]*\]|.+)`), "${1}${2}" + Mask,
		},
		{
			[]string{"bearer ", "basic "},
			regexp.MustCompile(`(?i)\b(bearer|basic) +[A-Za-z0-9+/=._~-]{8,}`), "${1} " + Mask,
		},
		{ // --password hunter2
			[]string{"--"},
			regexp.MustCompile(`(?i)(--[a-z0-9-]*(?:` + nameParts + `)[a-z0-9-]*(?: +|=))(?:"[^"]*"|'[^']*'|[^\s"'-]\S*)`), "${1}" + Mask,
		},
		{ // A line that is nothing but name and value: the value goes to its end, spaces and all.
			nil,
			regexp.MustCompile(`(?i)^(\s*(?:- +|export +|declare -x +|\+ +)*[A-Za-z0-9_.-]*(?:` + nameParts + `)` + nameEnd + `(?:=|: ?))[^\s{\[].*$`), "${1}" + Mask,
		},
		{
			nil,
			regexp.MustCompile(`(?i)([A-Za-z0-9_.-]*(?:` + nameParts + `)` + nameEnd + `\\*["']?\s*(?:=>?|:)\s*)(?:\\+"[^"\\]*\\+"|\\*"(?:[^"\\]|\\.)*"?|\\*'[^']*'?|[^\s,;&"'{}()\[\]]+)`),
			"${1}" + Mask,
		},
	}

	secretName = regexp.MustCompile(`(?i)` + nameParts)
)

// nameHints are the hints of the patterns with none of their own.
func nameHints() []string {
	return []string{"passw", "passphrase", "pwd", "secret", "token", "key", "credential"}
}

// patterns takes out what looks like a secret.
func patterns(s string) string {
	if strings.Contains(s, "-----BEGIN ") {
		s = pemBlock.ReplaceAllLiteralString(s, Mask)
	}
	if strings.Contains(s, "-----END ") {
		s = pemTail.ReplaceAllLiteralString(s, Mask)
	}
	lower := strings.ToLower(s)
	if !hinted(lower) {
		return s
	}
	if !strings.Contains(s, "\n") {
		return line(s, lower)
	}
	var b strings.Builder
	b.Grow(len(s))
	for l := range strings.Lines(s) {
		text := strings.TrimRight(l, "\r\n")
		b.WriteString(line(text, strings.ToLower(text)))
		b.WriteString(l[len(text):])
	}
	return b.String()
}

// line takes secrets out of one line; lower is the line in lowercase.
func line(s, lower string) string {
	for _, p := range linePatterns {
		hints := p.hints
		if hints == nil {
			hints = nameHints()
		}
		if containsAny(lower, hints) {
			s = p.expr.ReplaceAllString(s, p.replace)
		}
	}
	return s
}

func hinted(lower string) bool {
	for _, p := range linePatterns {
		if containsAny(lower, p.hints) {
			return true
		}
	}
	return containsAny(lower, nameHints())
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
