# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The commands: `mkdaxfs` and `daxfs`, whose subcommands are a module each.

They start quickly because a module is imported when its command runs, and rich when a progress
bar is shown.
"""
