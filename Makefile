# Commands for people who work on ocim. "make" lists them. Go, gcc, make and git are all that must
# be there; make e2e uses PostgreSQL and Node as well, and says so when they are missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO ?= go
# SQLite comes as C. The tags leave out what would need shared libraries at run time.
export CGO_ENABLED := 1
TAGS := sqlite_omit_load_extension,osusergo,netgo
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BUILD := $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

# How long each fuzz target runs, and how often the bot is killed by make chaos.
FUZZTIME ?= 10s
KILLS ?= 200
# More arguments: make run ARGS='--data /tmp/x', make test ARGS='-run TestF05 -v'.
ARGS ?=

ifeq ($(CI),true)
RACE := -race
endif

.PHONY: help
help: ## list these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/ocim
	$(BUILD) -tags $(TAGS) -o bin/ocim ./cmd/bot

.PHONY: run
run: build ## start the sandbox: a chat in this terminal, a simulated GitLab, data in ./data
	bin/ocim sandbox $(ARGS)

.PHONY: demo
demo: build ## play a story in the sandbox and fail if it goes wrong
	bin/ocim sandbox --demo $(ARGS)

.PHONY: test
test: ## all tests that need only Go and gcc (CI=true adds the race detector)
	$(GO) test $(RACE) -tags $(TAGS) -timeout 10m $(ARGS) ./...

.PHONY: e2e
e2e: build e2e-prepare ## tests with real peers: Mattermost, PostgreSQL, Bolt
	$(E2E) -timeout 10m -run '^TestReal' $(ARGS) ./adapters/mattermost $(E2E_SHOW)
	$(E2E) -timeout 20m $(ARGS) ./e2e/... $(E2E_SHOW)

# Verbose, because the go command hides what passing packages print, and with it the banners of
# peers that were not there. These tests wait more than they work, so that more of them than there
# are cores can go on at once.
E2E := $(GO) test -v -tags $(TAGS),e2e -count=1 -parallel 6
E2E_SHOW := | awk '!/^ *=== (RUN|PAUSE|CONT|NAME) /'

# What make e2e needs and what takes long to make; e2e/mattermost/rig builds the server by the same
# command, so that it is built once. A peer that cannot be made here is told loudly,
# and its tests are skipped; they say so too.
.PHONY: e2e-prepare
e2e-prepare:
	@if [ -f e2e/mattermost/server/go.mod ]; then \
		(cd e2e/mattermost/server && GOFLAGS= GOWORK=off $(GO) build -buildvcs=false -ldflags='-s -w' -o ../bin/mattermost .) || \
		echo "!!! e2e: the Mattermost server cannot be built here; its tests will be skipped" >&2; \
	fi
	@if [ -f e2e/bolt/package-lock.json ] && ! cmp -s e2e/bolt/package-lock.json e2e/bolt/node_modules/.ocim-lock; then \
		if command -v npm >/dev/null && (cd e2e/bolt && npm ci --no-audit --no-fund --ignore-scripts); then \
			cp e2e/bolt/package-lock.json e2e/bolt/node_modules/.ocim-lock; \
		else \
			echo "!!! e2e: Slack's Bolt cannot be installed here (npm); its tests will be skipped" >&2; \
		fi; \
	fi

.PHONY: bench
bench: build ## one table of speed and memory against a bare handler
	$(GO) run -tags $(TAGS) ./e2e/bench $(ARGS)

.PHONY: chaos
chaos: ## kill the bot at every crash point and KILLS times at random under load
	$(BUILD) -tags $(TAGS),ocim_crash -o bin/ocim-crash ./cmd/bot
	KILLS=$(KILLS) $(GO) test -tags $(TAGS),e2e -count=1 -v -timeout 60m -run 'Crash|Kill' $(ARGS) ./e2e/...

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's/^(.*)\/[^/]+:[0-9]+:func (.*)$$/\1 \2/' | sort -u | \
	while read -r pkg target; do \
		echo "== $$pkg $$target"; \
		$(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null; \
	done

# The linter is built from source, at the version of internal/tools/go.mod, and again only when
# that changes. The first time takes some minutes.
LINT_STAMP := bin/.golangci-lint-$(shell cksum <internal/tools/go.sum | tr ' ' '-')
$(LINT_STAMP): internal/tools/go.mod
	cd internal/tools && $(GO) build -trimpath -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@rm -f bin/.golangci-lint-* && touch $@

.PHONY: lint
lint: $(LINT_STAMP) ## look for mistakes and breaches of the house rules
	$(GO) vet -tags $(TAGS) ./...
	bin/golangci-lint run ./...

.PHONY: fmt
fmt: $(LINT_STAMP) ## format the Go files
	bin/golangci-lint fmt ./...

.PHONY: gen
gen: ## make generated files again: config/sample.yaml and golden files of help and docs
	$(GO) generate ./...

.PHONY: check
check: lint test demo e2e ## what CI does

.PHONY: clean
clean: ## remove what was built
	rm -rf bin e2e/mattermost/bin
