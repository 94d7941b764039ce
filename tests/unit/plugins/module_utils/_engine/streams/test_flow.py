# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import StreamError
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import flow
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams import Endless, Pieces, SourceBroke, Stuck, drain

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=5)


@given(st.binary(max_size=20000), SIZES, st.integers(1, 30000), st.booleans())
def test_what_is_read_depends_on_no_size(data: bytes, sizes: list[int], n: int, threaded: bool) -> None:
    source = Pieces(data, sizes=sizes)
    reader = flow.read_ahead(source, name="ahead", size=3000) if threaded else flow.Peekable(source)
    with reader:
        pieces = list(iter(lambda: reader.read(n), b""))
        assert reader.read(1) == b""
    assert b"".join(pieces) == data
    assert all(len(piece) == n for piece in pieces[:-1])


@given(st.binary(max_size=5000), SIZES, st.lists(st.integers(1, 6000), max_size=6))
def test_peeking_takes_nothing(data: bytes, sizes: list[int], steps: list[int]) -> None:
    reader = flow.Peekable(Pieces(data, sizes=sizes))
    position = 0
    for step in steps:
        assert reader.peek(step) == data[position : position + step]
        position += len(reader.read(max(1, step // 2)))
    assert drain(reader) == data[position:]


def test_reading_nothing_is_refused_as_it_would_look_like_the_end() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        flow.Peekable(Pieces(b"data")).read(0)


@pytest.mark.parametrize("fail_at", [0, 1, 4999, 5000])
@pytest.mark.parametrize("threaded", [True, False])
def test_an_error_stays_an_error(fail_at: int, threaded: bool) -> None:
    source = Pieces(bytes(5000), fail_at=fail_at)
    with flow.read_ahead(source, name="ahead") if threaded else flow.Peekable(source) as reader:
        for _again in range(3):
            with pytest.raises(SourceBroke):
                drain(reader)
        with pytest.raises(SourceBroke):
            reader.peek(5001)


def test_nothing_runs_before_the_first_read_and_closing_then_is_fine() -> None:
    source = Endless()
    reader = flow.read_ahead(source, name="ahead")
    assert "ahead" not in {thread.name for thread in threading.enumerate()}
    reader.close()
    assert source.closed == 1
    with pytest.raises(StreamError, match="closed"):
        reader.read(1)


def test_a_thread_is_only_so_far_ahead() -> None:
    put: list[int] = []
    full = threading.Event()

    def produce(give: t.Callable[[bytes], None]) -> None:
        while True:
            if len(put) == flow.DEPTH + 1:
                full.set()
            put.append(1)
            give(b"x" * 10)

    with flow.ThreadReader(produce, Endless(), name="ahead") as reader:
        reader.read(10)
        full.wait()
        # One was read, DEPTH wait, one more is in the thread's hand.
        assert len(put) <= flow.DEPTH + 2


@pytest.mark.parametrize("read", [1, 10 * flow.DEPTH * flow.CHUNK])
def test_closing_early_ends_a_thread_that_waits_for_its_reader(read: int) -> None:
    source = Endless()
    reader = flow.read_ahead(source, name="ahead")
    reader.read(read)
    reader.close()
    reader.close()
    assert source.closed >= 1


def test_closing_wakes_a_reader_in_another_thread() -> None:
    source = Stuck(b"some")
    reader = flow.read_ahead(source, name="ahead")
    assert reader.read(4) == b"some"
    errors: list[BaseException] = []

    def read() -> None:
        try:
            reader.read(1)
        except StreamError as exc:
            errors.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    source.waiting.wait()
    reader.close()
    thread.join()
    assert "closed" in str(errors[0])
    with pytest.raises(StreamError, match="closed"):
        reader.read(1)


def test_an_interpreter_wide_exception_crosses_over_too() -> None:
    def produce(put: t.Callable[[bytes], None]) -> None:
        put(b"some")
        raise SystemExit(3)

    with flow.ThreadReader(produce, Endless(), name="ahead") as reader, pytest.raises(SystemExit):
        drain(reader)
