# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What all stages of a stream have in common: the protocol, a buffer, and a thread with a bounded hand-over.

One rule holds for every reader in this package: ``b""`` means that the end is *proven*.  The process exited with 0, the
decompressor saw its trailer, age its final chunk, the checksum matched.  Anything else raises, in every later read too.
"""

from __future__ import annotations

import collections
import threading
import typing as t

from ..errors import StreamError

if t.TYPE_CHECKING:
    import typing_extensions as te

#: How much each reader asks of its source, in bytes.  Measured: below 256 KiB the hand-overs begin to cost, above
#: it the data leaves the processor's cache between two stages.
CHUNK = 256 * 1024

#: Chunks that may wait between two threads; a few are enough to keep both busy, and memory stays flat.
DEPTH = 8


class Readable(t.Protocol):
    """Anything bytes can be read from."""

    def read(self, n: int, /) -> bytes:
        """At least one and at most *n* bytes; ``b""`` only at the proven end; anything wrong raises."""

    def close(self) -> None:
        """Give up what is held; a second call does nothing."""


class ChunkReader:
    """A reader made of chunks of whatever size: subclasses give the chunks, this gives ``read`` and ``peek``.

    :meth:`read` returns exactly the bytes asked for, fewer only right before the end.  An error is raised again by
    every later read: a consumer that tries once more never takes a failure for the end.
    """

    def __init__(self) -> None:
        self._held = b""
        self._position = 0
        self._ended = False
        self._error: BaseException | None = None

    def _next_chunk(self) -> bytes:
        """The next chunk, ``b""`` at the proven end (then never called again)."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up what is held; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> te.Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _pull(self) -> bytes:
        if self._error is not None:
            raise self._error
        if self._ended:
            return b""
        try:
            chunk = self._next_chunk()
        except BaseException as exc:
            self._error = exc
            raise
        self._ended = not chunk
        return chunk

    def read(self, n: int, /) -> bytes:
        """Exactly *n* bytes (at least 1), fewer at the end, ``b""`` once the end is proven."""
        if n < 1:
            raise ValueError("read at least one byte: nothing read would look like the end")
        pieces = []
        while n:
            if self._position == len(self._held):
                self._position = 0
                self._held = self._pull()
                if not self._held:
                    break
            if self._position == 0 and len(self._held) <= n:
                piece, self._held = self._held, b""
            else:
                piece = self._held[self._position : self._position + n]
                self._position += len(piece)
            pieces.append(piece)
            n -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def peek(self, n: int) -> bytes:
        """The next *n* bytes without taking them; fewer only where the stream ends before."""
        while len(self._held) - self._position < n:
            chunk = self._pull()
            if not chunk:
                break
            self._held = self._held[self._position :] + chunk
            self._position = 0
        return self._held[self._position : self._position + n]


class _Abandoned(Exception):
    """Tells a producing thread that nobody reads any more."""


class ThreadReader(ChunkReader):
    """Runs *produce* in a thread of its own and reads what it puts, at most *depth* chunks behind.

    :param produce: called once, in the thread, with a function that takes the next chunk and blocks while the reader
        is behind.  Its normal return is the proven end; whatever it raises is raised by :meth:`read`.
    :param source: what *produce* reads from.  :meth:`close` closes it at once, while the thread may be reading it, and
        then waits for the thread.
    """

    def __init__(
        self,
        produce: t.Callable[[t.Callable[[bytes], None]], None],
        source: Readable,
        *,
        name: str,
        depth: int = DEPTH,
    ) -> None:
        super().__init__()
        self._depth = depth
        self._produce = produce
        self._source = source
        self._chunks: collections.deque[bytes] = collections.deque()
        self._changed = threading.Condition()
        self._done = False
        self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        failure: BaseException | None = None
        try:
            self._produce(self._put)
        except BaseException as exc:  # noqa: BLE001 - crosses over to the reading thread, whatever it is
            failure = exc
        with self._changed:
            self._failure = failure
            self._done = True
            self._changed.notify_all()

    def _put(self, chunk: bytes) -> None:
        if not chunk:
            return
        with self._changed:
            while len(self._chunks) >= self._depth and not self._closed:
                self._changed.wait()
            if self._closed:
                raise _Abandoned
            self._chunks.append(chunk)
            self._changed.notify_all()

    def _next_chunk(self) -> bytes:
        with self._changed:
            if self._thread.ident is None and not self._closed:
                self._thread.start()
            while not (self._chunks or self._done or self._closed):
                self._changed.wait()
            if self._closed:
                raise StreamError("the stream was closed while it was being read")
            if self._chunks:
                chunk = self._chunks.popleft()
                self._changed.notify_all()
                return chunk
            if self._failure is not None:
                raise self._failure
            return b""

    def close(self) -> None:
        """End the thread and close the source; a second call does nothing."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._changed.notify_all()
        try:
            self._source.close()
        finally:
            if self._thread.ident is not None:
                self._thread.join()


class Peekable(ChunkReader):
    """*source* with :meth:`peek`."""

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source

    def _next_chunk(self) -> bytes:
        return self._source.read(CHUNK)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def read_ahead(source: Readable, *, name: str, size: int = CHUNK, depth: int = DEPTH) -> ThreadReader:
    """*source*, read in a thread of its own so that it overlaps with the reader of the result."""

    def produce(put: t.Callable[[bytes], None]) -> None:
        while True:
            chunk = source.read(size)
            if not chunk:
                return
            put(chunk)

    return ThreadReader(produce, source, name=name, depth=depth)
