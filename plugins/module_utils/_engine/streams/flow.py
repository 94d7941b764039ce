# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The common parts of all stages of a stream: the reader protocol, a buffer, and a thread with a bounded queue.

One rule applies to every reader in this package: ``b""`` means that the end is *proven*.  The process exited with 0,
the decompressor read its trailer, age its final chunk, and the checksum matched.  Otherwise the read raises an error,
and so does every later read.
"""

from __future__ import annotations

import collections
import threading
import typing as t

from ..errors import StreamError

if t.TYPE_CHECKING:
    import typing_extensions as te

#: Bytes that a stage requests from the previous one.  Measured: below 256 KiB the queue operations take noticeable
#: time, above it the data leaves the processor's cache between two stages.
CHUNK = 256 * 1024

#: Maximum number of chunks queued between two threads: a few keep both busy and the use of memory constant.
DEPTH = 8


class Readable(t.Protocol):
    """Anything that bytes can be read from."""

    def read(self, n: int, /) -> bytes:
        """Return at least one and at most *n* bytes, or ``b""`` at the proven end; raise an error otherwise."""

    def close(self) -> None:
        """Release all resources; a second call does nothing."""


class ChunkReader:
    """Base of readers that produce chunks of any size: subclasses provide the chunks, this class ``read`` and ``peek``.

    :meth:`read` returns exactly the requested number of bytes, and fewer only right before the end.  Every later read
    raises the same error again, so that a consumer that retries never mistakes a failure for the end.
    """

    def __init__(self) -> None:
        self._held = b""
        self._position = 0
        self._ended = False
        self._error: BaseException | None = None

    def _next_chunk(self) -> bytes:
        """Return the next chunk, or ``b""`` at the proven end, after which it is not called again."""
        raise NotImplementedError

    def close(self) -> None:
        """Release all resources; a second call does nothing."""
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
        """Return exactly *n* bytes (at least 1), fewer at the end, and ``b""`` once the end is proven."""
        if n < 1:
            raise ValueError("read at least one byte: an empty result would look like the end")
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
        """Return the next *n* bytes without consuming them; fewer only if the stream ends before that."""
        while len(self._held) - self._position < n:
            chunk = self._pull()
            if not chunk:
                break
            self._held = self._held[self._position :] + chunk
            self._position = 0
        return self._held[self._position : self._position + n]


class _Abandoned(Exception):
    """Tells the producing thread that the reader has been closed."""


class ThreadReader(ChunkReader):
    """Runs *produce* in its own thread and reads its output, of which at most *depth* chunks are queued.

    :param produce: called once, in the thread, with a function that accepts the next chunk and blocks while the queue
        is full.  Its normal return is the proven end; :meth:`read` raises any error that it raises.
    :param source: the source that *produce* reads.  :meth:`close` closes it at once, possibly while the thread reads
        it, and then waits for the thread.
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
        except BaseException as exc:  # noqa: BLE001 - passed to the reading thread, whatever it is
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
        """Stop the thread and close the source; a second call does nothing."""
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
    """Adds :meth:`peek` to *source*."""

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source

    def _next_chunk(self) -> bytes:
        return self._source.read(CHUNK)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Ended:
    """Passes the end of *source* on only after *check* has returned; what it raises takes the place of the end."""

    def __init__(self, source: Readable, check: t.Callable[[], object]) -> None:
        self._source = source
        self._check = check

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes of the source."""
        chunk = self._source.read(n)
        if not chunk:
            self._check()
        return chunk

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def read_ahead(source: Readable, *, name: str, size: int = CHUNK, depth: int = DEPTH) -> ThreadReader:
    """Read *source* in its own thread, so that this overlaps with the work of the caller."""

    def produce(put: t.Callable[[bytes], None]) -> None:
        while True:
            chunk = source.read(size)
            if not chunk:
                return
            put(chunk)

    return ThreadReader(produce, source, name=name, depth=depth)
