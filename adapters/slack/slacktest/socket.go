package slacktest

import (
	"context"
	"net/http"
)

type socketState struct {
	tickets map[string]bool
}

func (s *Server) connectionsOpen(args) (Object, *apiError)       { return nil, refuse("x") }
func (s *Server) closeSockets()                                  {}
func (s *Server) serveSocket(http.ResponseWriter, *http.Request) {}
func (s *Server) deliverSocket(context.Context, string, Object, redelivery) (Answer, error) {
	return Answer{}, ErrNoBot
}
