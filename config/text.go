package config

import (
	"strings"
	"unicode/utf8"
)

// maxShown is how much of a value a message repeats.
const maxShown = 60

// show makes a value fit for a message. What looks like a token is left out, since people do paste
// one into the wrong line.
func show(value string) string {
	for _, p := range []string{"glpat-", "glptt-", "gloas-", "gldt-", "xox", "xapp-", "whsec_", "-----BEGIN", "eyJ"} {
		if strings.Contains(value, p) {
			return "***"
		}
	}
	if utf8.RuneCountInString(value) > maxShown {
		return string([]rune(value)[:maxShown]) + "…"
	}
	return value
}

// nearest returns the word that got was most likely meant to be, or "".
func nearest(got string, words []string) string {
	best, least := "", len(got)/3+1
	for _, w := range words {
		if n := distance(strings.ToLower(got), w, least+1); n <= least && n < max(len(got), len(w)) {
			if n < least || best == "" {
				best, least = w, n
			}
		}
	}
	return best
}

// distance is the number of letters that must be added, removed or replaced to turn a into b, or
// limit if it is that or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
