# oktsec: `make run` builds and starts the gateway, `make test` runs every test. Both install what is missing.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps build run test lint doc fuzz-smoke memcheck bench deny clean

# Debian packages the build needs, each with a file (or files, by a pattern) that tells whether it is there.
APT := cmake:/usr/bin/cmake ragel:/usr/bin/ragel libboost-dev:/usr/include/boost/version.hpp \
       g++:/usr/bin/g++ clang:/usr/bin/clang 'libclang-dev:/usr/lib/llvm-*/lib/libclang*.so*' mold:/usr/bin/mold \
       make:/usr/bin/make pkg-config:/usr/bin/pkg-config curl:/usr/bin/curl

# A compiler cache is used where one is installed and never required.
ifneq ($(wildcard /usr/lib/ccache/clang++),)
export PATH := /usr/lib/ccache:$(PATH)
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
endif

CARGO ?= cargo
ARGS ?=

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

deps: ## Install missing build tools (Debian, through apt)
	@missing=""; \
	for entry in $(APT); do \
	  package=$${entry%%:*}; file=$${entry#*:}; \
	  compgen -G "$$file" >/dev/null || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "deps: installing$$missing"; \
	  command -v apt-get >/dev/null || { echo "deps: this is no Debian; please install:$$missing"; exit 2; }; \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "deps: everything is there"; fi
	@command -v $(CARGO) >/dev/null || { echo "deps: no Rust toolchain found; install Rust (rustup) and run make again"; exit 2; }

build: deps ## Build the oktsec binary
	@echo "build: the first build compiles RocksDB and Vectorscan and takes ten to thirty minutes; later ones take seconds"
	$(CARGO) build --release -p oktsec

run: build ## Build and start; writes a configuration and keys on the first start (ARGS="--port 8080")
	./target/release/oktsec run $(ARGS)

test: deps ## Run every test
	@echo "test: building everything in the one release profile; the first build takes ten to thirty minutes"
	$(CARGO) test --release --workspace $(ARGS)

lint: deps ## Formatting and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

doc: ## Build the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps

fuzz-smoke: ## Run every fuzz entry point for a moment on the stable toolchain
	$(CARGO) test --release -p oktsec-fuzz

memcheck: deps ## Run the tests of the binding to Vectorscan under valgrind
	@command -v valgrind >/dev/null || { echo "memcheck: install valgrind first"; exit 2; }
	@binary=$$($(CARGO) test --release -p oktsec-scanner --lib --no-run 2>&1 | sed -n 's/.*unittests.*(\(.*\))/\1/p'); \
	[ -n "$$binary" ] || { echo "memcheck: the tests did not build"; exit 2; }; \
	plain=$$(mktemp); trap 'rm -f "$$plain"' EXIT; \
	strip --strip-debug -o "$$plain" "$$binary"; \
	valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=9 "$$plain" engine:: --test-threads=1

bench: build ## Run the load benches and print ratios to their baselines
	$(CARGO) run --release -p oktsec-benches --bin oktsec-bench -- $(ARGS)

deny: ## Check licences, sources and who may import whom
	$(CARGO) deny --all-features check bans licenses sources

clean: ## Remove what was built
	$(CARGO) clean
