package gitlab

import (
	"context"
	"net/http"
	"net/url"

	gl "gitlab.com/gitlab-org/api/client-go/v2"

	"ocim/internal/secret"
	"ocim/ops"
)

// kind says what a call may have done if its answer is lost.
type kind int

const (
	kindRead kind = iota
	kindCreate
	kindCancel
)

// request is one call.
type request struct {
	kind    kind
	method  string
	path    string
	opts    any           // query of a GET, body of a POST
	token   secret.Secret // empty sends none
	page    url.Values    // the parameters of a further page
	out     any           // where the answer goes, an io.Writer for text
	limit   int64         // of the answer in bytes, if not the usual one
	doing   string        // for people: "read pipeline 9001"
	missing ops.Reason    // what a 404 means
}

// answer is what is known about an answer beside its body.
type answer struct {
	*gl.Response
	next url.Values
}

// call makes one call. Its error is an *[ops.Error].
func (a *Adapter) call(ctx context.Context, p *project, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	x := &exchange{limit: r.limit}
	options := []gl.RequestOptionFunc{gl.WithContext(withExchange(ctx, x))}
	if !r.token.Empty() {
		options = append(options, gl.WithToken(gl.PrivateToken, r.token.Reveal()))
	}
	if len(r.page) > 0 {
		options = append(options, gl.WithKeysetPaginationParameters("?"+r.page.Encode()))
	}
	req, err := p.host.client.NewRequest(r.method, r.path, r.opts, options)
	if err != nil {
		return answer{}, &ops.Error{
			Code: ops.CodeInternal, Reason: ops.ReasonInternal,
			Msg: "ocim could not form its request to GitLab.", Err: a.cause(err),
		}
	}
	resp, err := p.host.client.Do(req, r.out)
	if err == nil && !accepted(resp.StatusCode) {
		// The client counts a 304 as success.
		err = &gl.ErrorResponse{StatusCode: resp.StatusCode, Response: resp.Response}
	}
	if err != nil {
		failed := a.failure(p, r, x, resp, err)
		a.denied.note(p, r, failed)
		return answer{}, failed
	}
	a.denied.note(p, r, nil)
	return answer{Response: resp, next: x.next}, nil
}

func accepted(status int) bool {
	return status >= http.StatusOK && status < http.StatusMultipleChoices
}

// list reads a list page by page until there is no more, maxPages were read, or yield returns
// false. It reports whether the list was read to its end, or as far as yield wanted.
func list[T any](ctx context.Context, a *Adapter, p *project, r request, maxPages int, yield func([]T) bool) (bool, error) {
	for range maxPages {
		var page []T
		r.out = &page
		ans, err := a.call(ctx, p, r)
		if err != nil {
			return false, err
		}
		if !yield(page) || len(ans.next) == 0 {
			return true, nil
		}
		r.page = ans.next
	}
	return false, nil
}
