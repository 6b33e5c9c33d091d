# SPDX-License-Identifier: Apache-2.0 OR MIT
# Coverage-guided fuzzing of the engine, on the stable toolchain.

FUZZ_DIR := crates/daxfs-core/fuzz
FUZZ_TARGETS := open validate read replay replay_ours branches build_archive
# For each target.
FUZZ_SECONDS ?= 900
FUZZ_QUICK_SECONDS ?= 12

CARGO_FUZZ := $(or $(shell command -v cargo-fuzz),target/tools/bin/cargo-fuzz)
# No sanitizer: the engine copies out of the mapped memory after a check of its own, and the
# overflow checks and assertions that cargo-fuzz turns on are what finds mistakes here.
FUZZ := $(CARGO_FUZZ) run --fuzz-dir $(FUZZ_DIR) --sanitizer none

.PHONY: fuzz fuzz-quick fuzz-seeds

target/tools/bin/cargo-fuzz:
	cargo install --quiet --locked --version 0.13.2 --root target/tools cargo-fuzz

fuzz-seeds: $(CARGO_FUZZ)
	@command -v c++ >/dev/null || { $(APT_INSTALL) g++; }
	cargo run --quiet --manifest-path $(FUZZ_DIR)/Cargo.toml --example seeds $(FUZZ_DIR)/corpus

fuzz: SECONDS_EACH = $(FUZZ_SECONDS)
fuzz: fuzz-seeds ## Look for inputs that break the engine, FUZZ_SECONDS for each target
	$(fuzz-all)

fuzz-quick: SECONDS_EACH = $(FUZZ_QUICK_SECONDS)
fuzz-quick: fuzz-seeds ## The same for 12 seconds each
	$(fuzz-all)

# What was found in earlier runs is in the corpus, so that each one goes on from there.
define fuzz-all
	set -e; for target in $(FUZZ_TARGETS); do \
		$(FUZZ) $$target -- -max_total_time=$(SECONDS_EACH) -max_len=400000 -timeout=20 \
			-rss_limit_mb=4096 -verbosity=0 -print_final_stats=1; \
	done
endef
