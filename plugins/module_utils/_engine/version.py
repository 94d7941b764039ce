# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The version of this engine, which is that of its collection (``galaxy.yml``)."""

from __future__ import annotations

VERSION = "0.1.0"
