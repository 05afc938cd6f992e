package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

func median[T cmp.Ordered](values []T) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// round is what one round measured of the yardstick and of the bot, one after the other.
type round struct {
	bare, bot stretch
}

// rounds are several, of which those that others disturbed do not count as long as enough remain.
type rounds []round

// clean returns the rounds that count, and a remark about the others.
func (rs rounds) clean() (rounds, string) {
	kept := slices.DeleteFunc(slices.Clone(rs), func(r round) bool { return r.bare.disturbed || r.bot.disturbed })
	switch {
	case len(kept) == len(rs):
		return rs, fmt.Sprintf("%d rounds", len(rs))
	case len(kept)*2 < len(rs):
		return rs, fmt.Sprintf("%d rounds, %d of them disturbed by other programs", len(rs), len(rs)-len(kept))
	}
	return kept, fmt.Sprintf("%d rounds, %d more left out as disturbed", len(kept), len(rs)-len(kept))
}

// ratio is the median over the rounds of what f makes of the bot's stretch, divided by the same of
// the bare handler's.
func (rs rounds) ratio(f func(stretch) float64) float64 {
	var all []float64
	for _, r := range rs {
		if by := f(r.bare); by > 0 {
			all = append(all, f(r.bot)/by)
		}
	}
	return median(all)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
