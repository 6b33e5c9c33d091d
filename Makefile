# SPDX-License-Identifier: Apache-2.0 OR MIT
# Every target sets up what it needs. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What the demonstration makes an image of; empty: the Python installation that runs it.
DIR ?=

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# The lists of a fresh machine may be empty.
APT_INSTALL := $(SUDO) apt-get -qq update; $(SUDO) apt-get install -y
COMPILER := command -v cc >/dev/null || { $(APT_INSTALL) gcc libc6-dev; }
SOURCES := Cargo.toml pyproject.toml $(wildcard Cargo.lock) $(wildcard crates/*/Cargo.toml) \
	$(wildcard kernel/*) $(shell find crates/*/src python -name '*.rs' -o -name '*.py' -o -name '*.pyi' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help install demo test peers test-rust test-python test-fs stress test-vm test-fs-vm test-tsan test-musl lint fmt bench bench-instructions clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(APT_INSTALL) python3-venv; }
	$(PYTHON) -m venv $(VENV)

# pip decides what to do anew; the stamp only spares its start when nothing changed.
$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	@$(COMPILER)
	$(BIN)/python -m pip install --quiet '.[fsspec]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet '.[fsspec,test]'
	@touch $@

install: $(VENV)/.installed ## Build and install into .venv

demo: install ## Build, prove, read, branch, mount, commit and compare an image of a real tree
	@command -v git >/dev/null || { $(APT_INSTALL) git; }
	PATH="$(abspath $(BIN)):$$PATH" ./demo.sh $(DIR)

test: test-rust test-python test-fs test-parity fuzz-quick test-vm ## Run everything: Rust, Python, mounts, the C engine, fuzzing, virtual machines

# Tools that the engine's tests compare with.
PEERS := bsdtar:libarchive-tools bzip2:bzip2 cpio:cpio python3:python3 xz:xz-utils zstd:zstd

peers:
	@$(COMPILER)
	@missing=$$(for pair in $(PEERS); do command -v $${pair%%:*} >/dev/null || echo $${pair##*:}; done); \
		[ -z "$$missing" ] || { $(APT_INSTALL) $$missing; }

test-rust: peers ## Run the engine's tests
	cargo test --workspace --exclude daxfs-py

test-python: $(VENV)/.installed-test ## Run the tests of the package and the commands
	@command -v git >/dev/null || { $(APT_INSTALL) git; }
	@command -v patch >/dev/null || { $(APT_INSTALL) patch; }
	$(BIN)/python -m pytest tests/python

# Mounting needs root here; what an ordinary user may do is tested as one.
test-fs: $(VENV)/.installed-test ## Run programs, stressors and crashes on mounts
	$(SUDO) $(abspath $(BIN))/python -m pytest tests/fs

stress: $(VENV)/.installed-test ## The same for much longer, and a Debian worked on in a branch
	$(SUDO) $(abspath $(BIN))/python -m pytest tests/fs tests/stress --stress 30

test-vm: $(VENV)/.installed-test ## Run the commands on real shared memory in booted kernels
	$(BIN)/python tests/vm/setup.py
	$(BIN)/python -m pytest tests/vm --ignore tests/vm/test_arm64.py

# Guests have no network: the tests install here what they need there.
test-fs-vm: test-fs ## Run all tests of mounts in booted kernels, too (takes an hour or two)
	$(BIN)/python tests/vm/setup.py
	DAXFS_MOUNT_TESTS=tests/fs $(BIN)/python -m pytest tests/vm/test_mounts.py

# Those that have several threads, but for one that needs its mappings at a place that they do not get.
TSAN_TESTS := in_use race space threads

test-tsan: ## Look for data races in the engine (takes a nightly toolchain by rustup)
	rustup toolchain install nightly --profile minimal --component rust-src
	RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" cargo +nightly test \
		-Zbuild-std --target $$(rustc -vV | sed -n 's/^host: //p') --target-dir target/tsan \
		-p daxfs-core --lib $(TSAN_TESTS:%=--test %)

MUSL := $(shell uname -m)-unknown-linux-musl

test-musl: peers ## Run the engine's tests with musl, the C library of Alpine
	@command -v musl-gcc >/dev/null || { $(APT_INSTALL) musl-tools; }
	rustup target add $(MUSL)
	cargo test --tests -p daxfs-core -p daxfs-fuse --target $(MUSL)

lint: $(VENV)/.installed-test ## Check formatting, lints and types
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace
	cargo fmt --check --manifest-path $(FUZZ_DIR)/Cargo.toml
	@command -v c++ >/dev/null || { $(APT_INSTALL) g++; }
	cargo clippy --manifest-path $(FUZZ_DIR)/Cargo.toml --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/.installed-test ## Format the sources
	cargo fmt
	cargo fmt --manifest-path $(FUZZ_DIR)/Cargo.toml
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test ## Measure beside peers (takes a while, wants a quiet machine)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benches/build.py
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benches/read.py
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benches/mount.py

# Of the same version as the library that the lock file names.
COUNTER := $(shell sed -n '/^name = "gungraun"/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)

target/tools/bin/gungraun-runner: Cargo.lock
	cargo install --quiet --locked --version $(COUNTER) --root target/tools gungraun-runner
	@touch $@

bench-instructions: target/tools/bin/gungraun-runner ## Count the instructions that operations on branches take
	@command -v valgrind >/dev/null || { $(APT_INSTALL) valgrind libc6-dbg; }
	GUNGRAUN_RUNNER=$(abspath $<) cargo bench -p daxfs-core --bench instructions

clean: ## Remove what was built
	rm -rf target $(FUZZ_DIR)/target $(VENV) dist .mypy_cache .ruff_cache .pytest_cache

include fuzz.mk
include kernel.mk
