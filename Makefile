# The few commands that people and CI share. `make` alone lists them.

# Debian's cargo, which the set-up may install beside rustup's, must not come before it.
CARGO_HOME ?= $(HOME)/.cargo
export PATH := $(CARGO_HOME)/bin:$(PATH)
export CARGO_HOME

.DEFAULT_GOAL := help
.PHONY: help dev test chaos conformance fuzz bench bench-peers bench-scale bench-hostile bench-outage bench-claim attack lint deny sbom \
	plugins

help: ## what you see
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 24
	@echo 'ARGS="..." is handed on: make dev ARGS=--fresh, make test ARGS="-p arcyou-gateway --test chat refusals::"'

dev: ## chat on this machine: sets up what is missing, builds the plugins, runs the gateway
	@host/local-services/setup.sh dev
	cargo run -p arcyou-gateway -- dev $(ARGS)

# Tests wait for servers more than they compute: at least four at a time.
test: export RUST_TEST_THREADS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? 4 : cores)))
test: ## all tests, against real servers: sets up what is missing
	@host/local-services/setup.sh test
	cargo test $(if $(findstring -p ,$(ARGS)),,--workspace) $(ARGS)

chaos: ## kills and cuts off the parts of a running chat, and checks its promises; CHAOS_SEEDS=50, CHAOS_SEED=7, CHAOS_OUTAGE=redis
	@host/local-services/setup.sh test
	cargo build -p arcyou-outbox-worker
	cargo test -p arcyou-gateway --test chaos -- --ignored --nocapture $(ARGS)

conformance: ## holds the WebSocket layer against Autobahn's cases, and the HTTP API against its document; SCHEMATHESIS_SEED=7
	@host/local-services/setup.sh conformance
	cargo test -p arcyou-gateway --test conformance -- --ignored --nocapture $(ARGS)

fuzz: ## throws damaged frames, tokens and plugins at what reads them; FUZZ_CASES=50000
	@host/local-services/setup.sh test
	FUZZ_CASES=$${FUZZ_CASES:-20000} cargo test -p arcyou-gateway --test fuzz -- --nocapture $(ARGS)

bench: ## what the gateway costs, each figure beside a ceiling measured in the same run; ARGS="sends --rounds 3"
	@host/local-services/setup.sh test
	cargo build --release -p arcyou-outbox-worker
	cargo bench -p arcyou-gateway --bench figures -- $(ARGS)

bench-peers: ## the gateway beside plain ws with an INSERT and Redis, by the same clients; ARGS="--rounds 3"
	@host/local-services/setup.sh test
	cargo build --release -p arcyou-outbox-worker
	cargo bench -p arcyou-gateway --bench figures -- peers $(ARGS)

bench-scale: ## what a message costs as conversations, members, sockets, rows, gateways and workers grow; ARGS="rows --quick"
	@host/local-services/setup.sh test
	cargo build --release -p arcyou-outbox-worker
	cargo bench -p arcyou-gateway --bench scale -- $(ARGS)

bench-hostile: ## what hostile plugins do, and what their neighbours notice meanwhile
	@host/local-services/setup.sh test
	cargo bench -p arcyou-gateway --bench hostile

bench-outage: ## what people notice while Redis is away for a minute, at 200 messages a second
	@host/local-services/setup.sh test
	cargo build --release -p arcyou-outbox-worker
	cargo bench -p arcyou-gateway --bench outage -- $(ARGS)

bench-claim: ## how long a worker's claim takes with millions of processed rows, and under an open transaction
	@host/local-services/setup.sh test
	cargo bench -p arcyou-outbox-worker --bench claim -- $(ARGS)

attack: ## what attackers get, and what a bystander notices; ARGS="flood --quick", GATEWAY_BINARY=…
	@host/local-services/setup.sh test
	cargo build --release -p arcyou-outbox-worker
	cargo bench -p arcyou-gateway --bench attack -- $(ARGS)

lint: deny ## formatting, clippy, documentation and dependencies, warnings being errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

deny: ## licences, sources and known vulnerabilities of all crates, by deny.toml; checks less without a network
	@host/local-services/setup.sh lint
	@host/local-services/deny.sh

sbom: ## what the gateway and the worker are made of, as CycloneDX in target/sbom
	@host/local-services/setup.sh sbom
	@host/local-services/sbom.sh

plugins: ## the plugins of this repository that are in Rust, as .wasm files in target/plugins
	cargo run -q -p arcyou-gateway -- plugin build plugins --out target/plugins --mirror
