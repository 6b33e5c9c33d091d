# SPDX-License-Identifier: Apache-2.0 OR MIT
# The kernel module's engine beside the Rust one, and a kernel that watches itself.

.PHONY: test-parity test-kasan bench-kernel

test-parity: $(VENV)/.installed-test ## Compare the kernel's engine with the Rust engine
	@command -v gcc >/dev/null || { $(APT_INSTALL) gcc libc6-dev; }
	$(BIN)/python -m pytest tests/parity

test-kasan: $(VENV)/.installed-test ## Run the kernel tests on a debug kernel, built first (an hour in all)
	$(BIN)/python tests/vm/setup.py
	$(BIN)/python tests/vm/debug_kernel.py
	DAXFS_TEST_KERNELS=debug $(BIN)/python -m pytest \
		tests/vm/test_kernel_hostile.py tests/vm/test_kernel_module.py \
		tests/vm/test_kernel_trouble.py

bench-kernel: $(VENV)/.installed-test ## Measure the module beside tmpfs and erofs, in instructions
	$(BIN)/python tests/vm/setup.py
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benches/kernel.py
