# SPDX-License-Identifier: Apache-2.0 OR MIT
# The kernel module's engine beside the Rust one, and a kernel that watches itself.

.PHONY: test-parity test-kasan test-newest test-arm64 bench-kernel

test-parity: $(VENV)/.installed-test ## Compare the kernel's engine with the Rust engine
	@command -v gcc >/dev/null || { $(APT_INSTALL) gcc libc6-dev; }
	$(BIN)/python -m pytest tests/parity

test-kasan: $(VENV)/.installed-test ## Run the kernel tests on a debug kernel, built first (an hour in all)
	$(BIN)/python tests/vm/setup.py
	$(BIN)/python tests/vm/debug_kernel.py
	DAXFS_TEST_KERNELS=debug $(BIN)/python -m pytest \
		tests/vm/test_kernel_hostile.py tests/vm/test_kernel_module.py \
		tests/vm/test_kernel_trouble.py

test-newest: $(VENV)/.installed-test ## Run the kernel tests on the newest kernel that Debian has for its stable release
	$(BIN)/python tests/vm/setup.py
	$(BIN)/python tests/vm/newest_kernel.py
	DAXFS_TEST_KERNELS=newest $(BIN)/python -m pytest tests/vm/test_kernel_hostile.py \
		tests/vm/test_kernel_module.py tests/vm/test_kernel_root.py tests/vm/test_kernel_trouble.py

ARM64 := aarch64-unknown-linux-gnu

# The emulator finds libraries where the cross compiler does. Of its best processor it says that it has
# `dc cvap`, which ends the program there, so it is another. What it cannot do: userfaultfd, tests
# that start themselves, mappings of a TiB, mappings where the kernel would place them, and
# /proc/PID/stat, which in it has another start for each thread.
ARM64_LACKS := region::fill:: one_winner_each_round what_only_root_may_restore_is_counted_for_others \
	branches_come_and_go_while_others_look holes_are_passed_over_and_data_in_them_found \
	holes_are_neither_read_nor_filled readers_endure_a_hostile_peer
test-arm64: peers $(VENV)/.installed-test ## Run the engine's tests and the kernel module on emulated arm64
	$(BIN)/python tests/vm/setup.py --arm64
	rustup target add $(ARM64)
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu cortex-a72 -L /usr/aarch64-linux-gnu" \
		cargo test --tests -p daxfs-core -p daxfs-fuse --target $(ARM64) -- $(addprefix --skip ,$(ARM64_LACKS))
	$(BIN)/python -m pytest tests/vm/test_arm64.py

bench-kernel: $(VENV)/.installed-test ## Measure the module beside tmpfs and erofs, in instructions
	$(BIN)/python tests/vm/setup.py
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benches/kernel.py
