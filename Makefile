# The commands of the project. `make run` and `make test` need a Debian-like machine with Go, and nothing else.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -X main.version=$(VERSION)

.PHONY: run build test test-go test-interop bench bench-peers bench-postgres lint fuzz chaos chaos-cluster clean

## run: build and start a gateway on ./tidegate-data with a demo database
run: build
	./bin/tidegate serve --demo

## build: the binary, in bin/tidegate
build:
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/tidegate ./cmd/tidegate

## test: install what the tests need and run them all
test: test-setup build
	go test -race ./...
	cd test/interop/goblip && go test -race ./...
	cd test/interop && TIDEGATE_BIN=$(CURDIR)/bin/tidegate node --test

.PHONY: test-setup
test-setup:
	./scripts/test-setup.sh

## lint: gofmt, go vet, staticcheck, govulncheck where it can be had
lint:
	./scripts/lint.sh

## bench: the load tool against a gateway started for it, and the Go benchmarks
bench: build
	./scripts/bench.sh

## bench-postgres: the load tool against a data directory, and PostgreSQL under one node and three
bench-postgres: build
	./scripts/bench-postgres.sh

## bench-peers: the same against other servers of the same API, in one run
bench-peers: build
	./scripts/bench.sh peers

## fuzz: every fuzz target for FUZZTIME each
FUZZTIME ?= 20s
fuzz:
	./scripts/fuzz.sh $(FUZZTIME)

## chaos: kill the gateway 50 times under load and look for every acknowledged write
chaos: build
	TIDEGATE_BIN=$(CURDIR)/bin/tidegate go test ./test/chaos -count=1 -v -kills 50

## chaos-cluster: three nodes on one PostgreSQL under clients for CLUSTER_MINUTES, while processes and links fail; SEED says how
CLUSTER_MINUTES ?= 10
SEED ?= 1
chaos-cluster: build
	TIDEGATE_BIN=$(CURDIR)/bin/tidegate go test ./test/chaos -count=1 -v -run 'TestCluster$$' -timeout 24h -seed $(SEED) -cluster-minutes $(CLUSTER_MINUTES)

clean:
	rm -rf bin
