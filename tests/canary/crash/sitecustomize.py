# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loaded by the interpreter of a module that is to crash: PYTHONPATH leads here.

The function that CANARY_CRASH names raises an exception whose text repeats everything that it was given, as
exceptions of libraries may.
"""

from __future__ import annotations

import os
import sys
import threading
import types

_where, _colon, _function = os.environ.get("CANARY_CRASH", "").rpartition(":")


def _crash(frame: types.FrameType, event: str, _argument: object) -> None:
    code = frame.f_code
    if event == "call" and code.co_name == _function and code.co_filename.endswith(_where):
        sys.settrace(None)
        raise RuntimeError(f"planted: {_function} was given {frame.f_locals!r}")


if _function:
    sys.settrace(_crash)
    threading.settrace(_crash)
