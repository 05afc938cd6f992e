package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ocim/ops"
	"ocim/store"
)

// metrics are what operators watch. They have a registry of their own, so that no library adds to
// them unasked, and no label takes a value from outside.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec // by route and status class
	shed     prometheus.Counter
	open     prometheus.Gauge
	cut      prometheus.Counter
	commits  prometheus.Histogram
	batch    prometheus.Histogram
	jobs     *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ocim_request_seconds", Help: "Time to answer a request of the public listener.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"route", "status"}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{Name: "ocim_requests_shed_total", Help: "Requests answered 503 because too many were under way."}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "ocim_connections_open", Help: "Connections of the public listener."}),
		cut:  prometheus.NewCounter(prometheus.CounterOpts{Name: "ocim_connections_cut_total", Help: "Connections closed to make room, whose peers were slow or idle."}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ocim_store_commit_seconds", Help: "Time of one transaction, disk included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1},
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ocim_store_commit_updates", Help: "Updates that shared one transaction.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
		jobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ocim_job_seconds", Help: "Time of one piece of work, by kind and outcome.", Buckets: []float64{.001, .01, .05, .1, .5, 1, 5, 10, 30},
		}, []string{"kind", "outcome"}),
	}
	m.registry.MustRegister(m.requests, m.shed, m.open, m.cut, m.commits, m.batch, m.jobs,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) store() store.Metrics {
	return store.Metrics{
		Commit: func(updates int, took time.Duration) {
			m.commits.Observe(took.Seconds())
			m.batch.Observe(float64(updates))
		},
		Job: func(kind ops.JobKind, took time.Duration, err error) {
			outcome := "ok"
			if err != nil {
				outcome = "error"
			}
			m.jobs.WithLabelValues(string(kind), outcome).Observe(took.Seconds())
		},
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
