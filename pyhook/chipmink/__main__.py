# SPDX-License-Identifier: Apache-2.0
"""``python -m chipmink run SCRIPT``: what the command `chipmink run` does."""

from ._run import main

main()
