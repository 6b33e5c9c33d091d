# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Being here, this file puts `tests/` on the import path, so tests can `import support`."""

import signal

# A job in the background is started with SIGINT ignored, and so are its children: with a handler
# of our own they begin with the system's.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
