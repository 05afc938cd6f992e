package ops

import (
	"slices"
	"strings"
)

// Nearest returns at most n of the candidates that somebody who typed word may have meant, nearest
// first. Case does not matter. Nothing is returned rather than something far-fetched.
func Nearest(word string, candidates []string, n int) []string {
	type near struct {
		s string
		d int
	}
	word = strings.ToLower(word)
	if len(word) > 100 {
		word = word[:100]
	}
	var found []near
	limit := max(1, (len(word)+1)/3)
	for _, c := range candidates {
		l := strings.ToLower(c)
		d := distance(word, l)
		if len(word) >= 2 && (strings.HasPrefix(l, word) || strings.Contains(l, word) && len(word) >= 3) {
			d = min(d, 1)
		}
		if d <= limit {
			found = append(found, near{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int {
		if a.d != b.d {
			return a.d - b.d
		}
		return strings.Compare(a.s, b.s)
	})
	var out []string
	for _, f := range found {
		if len(out) == n {
			break
		}
		out = append(out, f.s)
	}
	return out
}

// distance is the optimal string alignment distance: insertions, deletions, replacements and
// swaps of neighbours, the slips of people who type on phones.
func distance(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	prev2, prev := make([]int, len(rb)+1), make([]int, len(rb)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(ra); i++ {
		cur := make([]int, len(rb)+1)
		cur[0] = i
		for j := 1; j <= len(rb); j++ {
			cost := 1
			if ra[i-1] == rb[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && ra[i-1] == rb[j-2] && ra[i-2] == rb[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, cur
	}
	return prev[len(rb)]
}
