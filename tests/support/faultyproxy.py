# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy in front of a real S3 server that does on demand what real servers do on bad days.

``with FaultyProxy(server.endpoint) as proxy: proxy.inject("GetObject", refuse(403, "AccessDenied"))``.  A client is
given ``proxy.endpoint`` and the server's own credentials: requests pass unchanged, so signatures stay valid.  Bodies
are held in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import re
import socket
import struct
import threading
import typing as t
import urllib.parse

if t.TYPE_CHECKING:
    from types import TracebackType

HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        """The query's fields."""
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))

    @property
    def key(self) -> str:
        """The object's key, ``""`` for requests about the bucket."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/").partition("/")[2]

    @property
    def operation(self) -> str:
        """The S3 operation in Amazon's words."""
        query = self.query
        if not self.key:
            settings = {"versioning": "GetBucketVersioning", "object-lock": "GetObjectLockConfiguration"}
            asked = [operation for name, operation in settings.items() if name in query and self.method == "GET"]
            return "ListObjectsV2" if query.get("list-type") == "2" else "".join(asked) or f"{self.method} bucket"
        if "uploadId" in query:
            parts = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
            return parts.get(self.method, "ListParts")
        if "uploads" in query:
            return "CreateMultipartUpload"
        return f"{self.method.capitalize()}Object"


@dataclasses.dataclass
class Answer:
    """The server's answer, for a fault to change."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange:
    """One request and the connection it came on; what a fault works with."""

    def __init__(
        self, request: Request, upstream: tuple[str, int], handler: http.server.BaseHTTPRequestHandler
    ) -> None:
        self.request = request
        self._upstream = upstream
        self._handler = handler

    @property
    def length(self) -> int:
        """Bytes that the request's body has."""
        return int(self._handler.headers.get("content-length", 0))

    def receive(self, count: int) -> bytes:
        """The next *count* bytes of the body, for faults that come before it was read (see :class:`Early`)."""
        return self._handler.rfile.read(count)

    def forward(self) -> Answer:
        """Ask the real server."""
        connection = http.client.HTTPConnection(*self._upstream)
        try:
            connection.putrequest(self.request.method, self.request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.request.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(self.request.body)
            response = connection.getresponse()
            kept = [h for h in response.getheaders() if h[0].lower() not in ("connection", "transfer-encoding")]
            return Answer(response.status, kept, response.read())
        finally:
            connection.close()

    def send(self, answer: Answer, *, cut: int | None = None) -> None:
        """Send *answer*, of its body only *cut* bytes where that is given; the headers promise all of it."""
        handler = self._handler
        handler.send_response_only(answer.status)
        headers = {name.lower(): value for name, value in answer.headers}
        if self.request.method != "HEAD":
            headers["content-length"] = str(len(answer.body))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if self.request.method != "HEAD":
            handler.wfile.write(answer.body[:cut])
        handler.wfile.flush()

    def send_bytes(self, data: bytes) -> None:
        """Send *data* as it is, whatever it may be, and hang up."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection in good order."""
        self._handler.close_connection = True

    def reset(self) -> None:
        """Break the connection off (RST)."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._handler.close_connection = True


Fault = t.Callable[[Exchange], None]


@dataclasses.dataclass(frozen=True)
class Early:
    """A fault that comes before the request's body was read."""

    fault: Fault

    def __call__(self, exchange: Exchange) -> None:
        self.fault(exchange)


def refuse(status: int, code: str = "", message: str = "injected") -> Fault:
    """The server answers with an error without doing anything; with no *code* the answer has no body."""

    def fault(exchange: Exchange) -> None:
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode() if code else b""
        exchange.send(Answer(status, [("content-type", "application/xml")], body))

    return fault


def say(status: int, body: bytes) -> Fault:
    """The server answers something of one's own without doing anything."""
    return lambda exchange: exchange.send(Answer(status, [("content-type", "application/xml")], body))


def lose_answer(exchange: Exchange) -> None:
    """The server does what it was asked, and its answer is lost."""
    exchange.forward()
    exchange.reset()


def reset(exchange: Exchange) -> None:
    """The connection breaks before the server sees the request."""
    exchange.reset()


def reset_after(count: int) -> Fault:
    """The connection breaks *count* bytes into the answer's body."""

    def fault(exchange: Exchange) -> None:
        exchange.send(exchange.forward(), cut=count)
        exchange.reset()

    return fault


def end_after(count: int) -> Fault:
    """The answer's body ends in good order after *count* bytes, fewer than were promised."""

    def fault(exchange: Exchange) -> None:
        exchange.send(exchange.forward(), cut=count)
        exchange.hang_up()

    return fault


def altered(change: t.Callable[[Answer], None]) -> Fault:
    """The server's answer, changed in place by *change*."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        change(answer)
        exchange.send(answer)

    return fault


def reset_in_body(count: int) -> Early:
    """The connection breaks after *count* bytes of the request's body; counted from its end where negative."""

    def fault(exchange: Exchange) -> None:
        exchange.receive(count if count >= 0 else max(exchange.length + count, 0))
        exchange.reset()

    return Early(fault)


def before(action: t.Callable[[], object], *, reaches: bool = True) -> Fault:
    """*action* is done before the server is asked.

    :param reaches: whether the request reaches the server then, or its connection breaks.
    """

    def fault(exchange: Exchange) -> None:
        action()
        if reaches:
            exchange.send(exchange.forward())
        else:
            exchange.reset()

    return fault


def after(action: t.Callable[[], object]) -> Fault:
    """The server does what it was asked, and *action* is done before its answer is given."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        action()
        exchange.send(answer)

    return fault


def amid(count: int, action: t.Callable[[], object]) -> Fault:
    """*action* is done when *count* bytes of the answer's body were given."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.send(answer, cut=count)
        action()
        exchange.send_bytes(answer.body[count:])

    return fault


@dataclasses.dataclass
class Rule:
    """A fault that was ordered.

    :ivar fired: how many requests have met it.
    """

    operation: str
    fault: Fault
    skip: int
    times: int | None
    key: str
    fired: int = 0

    def is_for(self, request: Request) -> bool:
        """Whether it is about requests like this one."""
        about = re.fullmatch(self.operation, request.operation) and re.fullmatch(self.key, request.key, re.DOTALL)
        return about is not None and self.times != 0


class FaultyProxy:
    """Passes requests on to *upstream*, the URL of a plain HTTP server, but for those that a fault was ordered for.

    :ivar requests: all that came, in order.
    """

    def __init__(self, upstream: str) -> None:
        parts = urllib.parse.urlsplit(upstream)
        self._upstream = (parts.hostname or HOST, parts.port or 80)
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._idle = threading.Condition()
        self._busy = 0
        self.requests: list[Request] = []
        self._server = _Server((HOST, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.endpoint = f"http://{HOST}:{self._server.server_address[1]}"

    def inject(self, operation: str, fault: Fault, *, skip: int = 0, times: int | None = None, key: str = ".*") -> Rule:
        """Order *fault* for requests of *operation* (a regular expression for all of its name).

        :param skip: that many such requests pass before.
        :param times: then that many meet the fault; all of them by default.
        :param key: a regular expression for all of the object's key.
        """
        rule = Rule(operation, fault, skip, times, key)
        with self._lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all faults and all requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def seen(self, operation: str) -> list[Request]:
        """Requests of *operation* (a regular expression) so far."""
        with self._lock:
            return [request for request in self.requests if re.fullmatch(operation, request.operation)]

    def settle(self, seconds: float) -> None:
        """Wait until all that came is answered: a server goes on with what a client that is gone has sent."""
        with self._idle:
            self._idle.wait_for(lambda: not self._busy, seconds)

    @contextlib.contextmanager
    def _at_work(self) -> t.Iterator[None]:
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if not rule.is_for(request):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                rule.fired += 1
                return rule.fault
        return None

    def _note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                with proxy._at_work():
                    self._answer()

            def _answer(self) -> None:
                headers = dict(self.headers.items())
                fault = proxy._fault_for(Request(self.command, self.path, headers, b""))
                body = b"" if isinstance(fault, Early) else self.rfile.read(int(self.headers.get("content-length", 0)))
                request = Request(self.command, self.path, headers, body)
                proxy._note(request)
                exchange = Exchange(request, proxy._upstream, self)
                # A client that has had enough hangs up, and the server behind may have been stopped by a test.
                with contextlib.suppress(OSError):
                    if fault is None:
                        exchange.send(exchange.forward())
                    else:
                        fault(exchange)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""
