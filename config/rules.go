package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// names maps what must be unique to the path where it stands first.
type names map[string]string

// unique reports a second use of a value.
func (b *builder) unique(seen names, value, path string) {
	if value == "" {
		return
	}
	if first, ok := seen[value]; ok {
		b.d.report(path, "%s is already used by %s", show(value), first)
		return
	}
	seen[value] = path
}

// need reports an empty value.
func (b *builder) need(value, path string) bool {
	if value == "" && !b.faulty(path) {
		b.d.report(path, "is missing")
	}
	return value != ""
}

// spelling reports a value that does not look as it must.
func (b *builder) spelling(value, path string, want *regexp.Regexp, example string) bool {
	return b.need(value, path) && b.matches(value, path, want, example)
}

func (b *builder) matches(value, path string, want *regexp.Regexp, example string) bool {
	if !want.MatchString(value) {
		b.d.report(path, "%q is not %s", show(value), example)
		return false
	}
	return true
}

// name checks a name that we give.
func (b *builder) name(seen names, value, path string) {
	if b.spelling(value, path, ourName, "a name of at most 63 lowercase letters, digits and hyphens") {
		b.unique(seen, value, path)
	}
}

// refers reports a name that no block of a list has.
func (b *builder) refers(value, path, list string, known []string) {
	if !b.need(value, path) {
		return
	}
	msg := fmt.Sprintf("there is no %q in %s", show(value), list)
	if near := nearest(value, known); near != "" {
		msg += "; did you mean " + near + "?"
	}
	b.d.report(path, "%s", msg)
}

// oneOf reports a value that is none of a few words.
func (b *builder) oneOf(value, path string, words ...string) {
	if !slices.Contains(words, value) && !b.faulty(path) {
		b.d.report(path, "%q is not one of %s", show(value), strings.Join(words, ", "))
	}
}

func (b *builder) between(value time.Duration, path string, least, most time.Duration) {
	if (value < least || value > most) && !b.faulty(path) {
		b.d.report(path, "is %s, want %s to %s", short(value), short(least), short(most))
	}
}

func (b *builder) size(value int64, path string, least, most int64) {
	if (value < least || value > most) && !b.faulty(path) {
		b.d.report(path, "is %d, want %d to %d", value, least, most)
	}
}

// may checks the ids of a list of who may do what.
func (b *builder) may(m May, path string, want *regexp.Regexp, example string) {
	for _, l := range []struct {
		key string
		ids []string
	}{{"start", m.Start}, {"cancel", m.Cancel}, {"retry", m.Retry}} {
		seen := names{}
		for i, id := range l.ids {
			at := fmt.Sprintf("%s.%s[%d]", path, l.key, i)
			if b.spelling(id, at, want, example) {
				b.unique(seen, id, at)
			}
		}
	}
	if len(m.Start) == 0 && !b.faulty(path) && !b.faulty(path+".start") {
		b.warn(path+".start", "is empty, so nobody may start an operation from here")
	}
}

// instanceName is what Kubernetes takes as a namespace, since Grove makes one of this name.
var instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

const (
	maxInstance = 49 // opencraft, instance/models/instance.py: bucket names add 14 to it
	maxBucket   = 63 // S3; Grove's Terraform names buckets edx-<cluster>-<instance>
)

// instance checks the name of an instance of a cluster.
func (b *builder) instance(cluster, name, path string) {
	switch {
	case !b.spelling(name, path, instanceName, "an instance name: lowercase letters, digits and, inside, hyphens"):
	case len(name) > maxInstance:
		b.d.report(path, "is %d characters long, want at most %d", len(name), maxInstance)
	case len("edx-"+cluster+"-"+name) > maxBucket:
		b.d.report(path, "is too long for this cluster: edx-%s-%s, the name of its buckets, has more than %d characters", show(cluster), name, maxBucket)
	case reserved(name):
		b.d.report(path, "%s is a namespace of the cluster itself", name)
	}
}

// reserved reports whether Kubernetes or Grove keep a namespace of this name for themselves.
func reserved(name string) bool {
	return strings.HasPrefix(name, "kube-") ||
		slices.Contains([]string{"default", "monitoring", "openfaas", "openfaas-fn", "gitlab-kubernetes-agent"}, name)
}

// short is a duration as people write it: 5m rather than 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
