# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Helpers that several test suites share."""
