# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Being here, this file puts `tests/` on the import path, so tests can `import support`."""
