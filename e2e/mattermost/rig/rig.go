//go:build e2e

// Package rig runs a real Mattermost server for the end-to-end tests: it
// builds the program of e2e/mattermost/server once, gives it a PostgreSQL of
// its own, sets up the people, the bot and the channels that
// [mattermosttest.World] promises, and kills everything when the test ends.
//
// It needs Debian's package postgresql (any version from 14 on) and, for the
// first build, about five minutes of one core, 2.3 GB of disk and a Go module
// proxy that still has the server. Nothing it starts leaves the loopback
// interface.
package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"ocim/adapters/mattermost/mattermosttest"
	"ocim/internal/clock"
)

// Times a machine may take; the first build dwarfs the rest.
const (
	buildTimeout = 30 * time.Minute
	startTimeout = 2 * time.Minute
)

// Server is a running Mattermost, set up.
type Server struct {
	World mattermosttest.World
	// Built says how long the build took, which is about a second if there was
	// nothing to do, and the wait for others who build. Started and SetUp are the times from nothing to a server that answers,
	// and from there to one that is set up.
	Built, Started, SetUp time.Duration
}

// Peer is the server as its users see it.
func (s *Server) Peer(tb testing.TB) *mattermosttest.Peer {
	tb.Helper()
	return mattermosttest.NewPeer(tb, s.World)
}

// Start builds the server if need be, starts it and sets it up. The test is
// skipped, and says so, where the server's module or PostgreSQL cannot be
// had; everything else that goes wrong fails it.
func Start(tb testing.TB) *Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), buildTimeout)
	defer cancel()
	var now clock.System
	begun := now.Now()
	program, err := build(ctx)
	if errors.Is(err, errUnavailable) {
		skipLoudly(tb, err)
	}
	if err != nil {
		tb.Fatalf("build the Mattermost server: %v", err)
	}
	s := &Server{Built: now.Now().Sub(begun)}
	ctx, cancelStart := context.WithTimeout(ctx, startTimeout)
	defer cancelStart()
	begun = now.Now()
	dsn, err := startPostgres(ctx, tb)
	if errors.Is(err, errUnavailable) {
		skipLoudly(tb, err)
	}
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	url, err := startServer(ctx, tb, program, dsn)
	if err != nil {
		tb.Fatalf("start the Mattermost server: %v", err)
	}
	s.Started = now.Now().Sub(begun)
	begun = now.Now()
	s.World = setUp(ctx, tb, url)
	s.SetUp = now.Now().Sub(begun)
	tb.Logf("Mattermost at %s: built in %v, started in %v, set up in %v", url, s.Built, s.Started, s.SetUp)
	return s
}

// errUnavailable is something that this machine cannot get.
var errUnavailable = errors.New("not available here")

func skipLoudly(tb testing.TB, err error) {
	tb.Helper()
	const rule = "******************************************************************"
	message := fmt.Sprintf("\n%s\nTHE REAL MATTERMOST SERVER WAS NOT TESTED: %v\n%s\n", rule, err, rule)
	_, _ = fmt.Fprint(os.Stderr, message)
	tb.Skip(message)
}

// startServer runs the program on an empty database and waits until it
// answers.
func startServer(ctx context.Context, tb testing.TB, program, dsn string) (string, error) {
	tb.Helper()
	dir := tb.TempDir()
	addr, err := freeAddress(ctx)
	if err != nil {
		return "", err
	}
	url := "http://" + addr
	cmd := exec.Command(program, "server")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), settings(dir, addr, dsn)...)
	p, err := run(tb, cmd, filepath.Join(dir, "mattermost.log"))
	if err != nil {
		return "", err
	}
	for {
		if pinged(ctx, url) {
			return url, nil
		}
		select {
		case <-p.ended:
			return "", fmt.Errorf("it ended: %w\n%s", p.err, p.tail())
		default:
		}
		if err := clock.Sleep(ctx, clock.System{}, 20*time.Millisecond); err != nil {
			return "", fmt.Errorf("no answer: %w\n%s", err, p.tail())
		}
	}
}

func pinged(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v4/system/ping", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// settings is the configuration: bots and integrations on loopback allowed,
// everything that would call out off.
func settings(dir, addr, dsn string) []string {
	set := map[string]string{
		"CONFIG":                       filepath.Join(dir, "config.json"),
		"SQLSETTINGS_DRIVERNAME":       "postgres",
		"SQLSETTINGS_DATASOURCE":       dsn,
		"LOGSETTINGS_ENABLEFILE":       "false",
		"LOGSETTINGS_CONSOLELEVEL":     "INFO",
		"FILESETTINGS_DIRECTORY":       filepath.Join(dir, "data"),
		"PLUGINSETTINGS_DIRECTORY":     filepath.Join(dir, "plugins"),
		"CLOUDSETTINGS_DISABLE":        "true",
		"PLUGINSETTINGS_ENABLE":        "false",
		"TEAMSETTINGS_MAXUSERSPERTEAM": "1000",

		"SERVICESETTINGS_LISTENADDRESS":                       addr,
		"SERVICESETTINGS_SITEURL":                             "http://" + addr,
		"SERVICESETTINGS_ALLOWEDUNTRUSTEDINTERNALCONNECTIONS": "127.0.0.1",
		"SERVICESETTINGS_ENABLEBOTACCOUNTCREATION":            "true",
		"SERVICESETTINGS_ENABLEUSERACCESSTOKENS":              "true",
		"SERVICESETTINGS_ENABLECOMMANDS":                      "true",
		"SERVICESETTINGS_ENABLEPOSTUSERNAMEOVERRIDE":          "true",
		"SERVICESETTINGS_ENABLEPOSTICONOVERRIDE":              "true",
		"TEAMSETTINGS_ENABLEOPENSERVER":                       "true",
		"PLUGINSETTINGS_CLIENTDIRECTORY":                      filepath.Join(dir, "client-plugins"),
	}
	for _, off := range []string{
		"SERVICESETTINGS_ENABLELINKPREVIEWS", "SERVICESETTINGS_ENABLESECURITYFIXALERT",
		"LOGSETTINGS_ENABLEDIAGNOSTICS", "LOGSETTINGS_ENABLESENTRY", "EMAILSETTINGS_SENDPUSHNOTIFICATIONS",
		"EMAILSETTINGS_SENDEMAILNOTIFICATIONS", "ANNOUNCEMENTSETTINGS_ADMINNOTICESENABLED",
		"ANNOUNCEMENTSETTINGS_USERNOTICESENABLED", "PLUGINSETTINGS_ENABLEMARKETPLACE",
		"PLUGINSETTINGS_AUTOMATICPREPACKAGEDPLUGINS",
	} {
		set[off] = "false"
	}
	env := make([]string, 0, len(set))
	for k, v := range set {
		env = append(env, "MM_"+k+"="+v)
	}
	return env
}

// freeAddress finds a loopback port that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr, isTCP := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil || !isTCP {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return "127.0.0.1:" + strconv.Itoa(addr.Port), nil
}
