package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// outcome is what one stretch of load gave.
type outcome struct {
	took  []time.Duration // of the good answers, sorted
	bad   int             // wrong answers and errors
	first string          // the first of those
	wall  time.Duration
}

func (o *outcome) rate() float64 { return float64(len(o.took)) / o.wall.Seconds() }

// quantile is the time within which a share q of the answers came.
func (o *outcome) quantile(q float64) time.Duration { return quantile(o.took, q) }

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// tally collects what one connection saw.
type tally struct {
	took  []time.Duration
	bad   int
	first string
}

func (t *tally) note(s source, from time.Time, status int, body []byte, err error) {
	d := time.Since(from)
	if err == nil && s.good(status, body) {
		t.took = append(t.took, d)
		return
	}
	if t.bad++; t.bad == 1 {
		t.first = fmt.Sprintf("status %d, error %v, body %.200q", status, err, body)
	}
}

func gather(all []tally, wall time.Duration) outcome {
	o := outcome{wall: wall}
	for _, t := range all {
		o.took = append(o.took, t.took...)
		if o.bad += t.bad; o.first == "" {
			o.first = t.first
		}
	}
	slices.Sort(o.took)
	return o
}

// closed keeps conns requests under way for d: each connection sends the next as soon as it has the
// answer. It measures what a server can do.
func closed(ctx context.Context, addr string, of traffic, conns int, d time.Duration) outcome {
	all := makeTallies(conns)
	begin := time.Now()
	end := begin.Add(d)
	var wait sync.WaitGroup
	for i := range conns {
		wait.Go(func() {
			c, s := newClient(addr), of()
			defer c.close()
			var buf []byte
			for ctx.Err() == nil {
				from := time.Now()
				if !from.Before(end) {
					return
				}
				buf = s.next(buf)
				status, body, err := c.do(buf)
				all[i].note(s, from, status, body, err)
			}
		})
	}
	wait.Wait()
	return gather(all, time.Since(begin))
}

// counted sends n requests as closed does.
func counted(ctx context.Context, addr string, of traffic, conns, n int) outcome {
	all := makeTallies(conns)
	begin := time.Now()
	var wait sync.WaitGroup
	for i := range conns {
		wait.Go(func() {
			c, s := newClient(addr), of()
			defer c.close()
			var buf []byte
			for range n / conns {
				if ctx.Err() != nil {
					return
				}
				from := time.Now()
				buf = s.next(buf)
				status, body, err := c.do(buf)
				all[i].note(s, from, status, body, err)
			}
		})
	}
	wait.Wait()
	return gather(all, time.Since(begin))
}

func makeTallies(n int) []tally {
	all := make([]tally, n)
	for i := range all {
		all[i].took = make([]time.Duration, 0, 1<<12)
	}
	return all
}

// open sends rate requests a second for d with the random gaps of many independent people, whether
// or not earlier ones have been answered. Time counts from when a request was due, so that a server
// that stops for a second is seen to have kept all waiting who came in that second.
func open(ctx context.Context, addr string, of traffic, conns int, rate float64, d time.Duration) outcome {
	all := makeTallies(conns)
	due := arrivals(rate, d)
	var wait sync.WaitGroup
	for i := range conns {
		wait.Go(func() {
			c, s := newClient(addr), of()
			defer c.close()
			var buf []byte
			if err := c.dial(); err != nil {
				all[i].note(s, time.Now(), 0, nil, err)
			}
			for at := range due {
				buf = s.next(buf)
				status, body, err := c.do(buf)
				all[i].note(s, at, status, body, err)
				if ctx.Err() != nil {
					return
				}
			}
		})
	}
	begin := time.Now()
	wait.Wait()
	return gather(all, time.Since(begin))
}

// arrivals sends the instants at which requests are due, at those instants. Go's timers may be a
// millisecond late on a machine with nothing else to do; a thread that sleeps in the kernel is not.
func arrivals(rate float64, d time.Duration) <-chan time.Time {
	due := make(chan time.Time, 1<<14)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(due)
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		at := time.Now().Add(20 * time.Millisecond)
		for end := at.Add(d); ; {
			at = at.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
			if at.After(end) {
				return
			}
			if wait := time.Until(at); wait > 0 {
				ts := unix.NsecToTimespec(wait.Nanoseconds())
				_ = unix.Nanosleep(&ts, nil)
			}
			due <- at
		}
	}()
	return due
}
