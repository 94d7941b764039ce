# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the store: connections that break, stall or lead elsewhere, names and certificates that are wrong."""

from __future__ import annotations

import functools
import socket
import ssl
import threading
import typing as t

from tests.faults.cases.answers import DUMP, LATEST, MANIFEST, POINTS, Point
from tests.faults.trial import BACKUP, BOOTSTRAP, EITHER, FAILS, RESTORE, SUCCEEDS, Case, Trial, in_background, meets
from tests.support.faultyproxy import (
    Early,
    Exchange,
    Fault,
    amid,
    end_after,
    lose_answer,
    reset,
    reset_after,
    reset_in_body,
)
from tests.support.s3server import make_certificates


def cases() -> t.Iterator[Case]:
    """All of them."""
    for point in POINTS:
        if point.name == "bootstrap-list":
            continue
        for times, ending in ((3, "-passes"), (None, "")):
            harmless = point.harmless or times is not None
            yield Case(
                f"{point.stage}/{point.name}/reset{ending}",
                point.stage,
                f"the connection breaks at the {point.words}" + (", three times" if times else ""),
                _resets(point, times),
                expected=SUCCEEDS if harmless else FAILS,
                live=point.live,
                quick=point.name == "put-dump" and times is None,
            )
    yield from _lost_answers()
    yield from _broken_bodies()
    yield from _stalls()
    yield from _ways()


def _resets(point: Point, times: int | None) -> t.Callable[[Trial], None]:
    def arrange(trial: Trial) -> None:
        # What can't be aborted stays: the bucket's rule for incomplete uploads removes it.
        trial.may_leave = point.name == "abort-parts"
        trial.inject(point.operation, reset, key=point.key, times=times)

    return arrange


def _lost_answers() -> t.Iterator[Case]:
    for name, key, operation, live in (
        ("put-dump", DUMP, "PutObject", "small"),
        ("put-manifest", MANIFEST, "PutObject", "small"),
        ("put-latest", LATEST, "PutObject", "small"),
        ("put-part", ".*", "UploadPart", "large"),
        ("complete-parts", ".*", "CompleteMultipartUpload", "large"),
        ("create-parts", ".*", "CreateMultipartUpload", "large"),
    ):
        for times, ending in ((1, "-once"), (None, "")):
            yield Case(
                f"backup/{name}/lost-answer{ending}",
                BACKUP,
                f"{operation} of {name[4:] if name.startswith('put-') else name} is done and its answer lost"
                + (" once" if times else " each time"),
                _losing(operation, key, times),
                expected=EITHER,
                live=live,
            )


def _losing(operation: str, key: str, times: int | None) -> t.Callable[[Trial], None]:
    def arrange(trial: Trial) -> None:
        # An upload whose answer was lost is nobody's: the bucket's rule for incomplete uploads removes it.
        trial.may_leave = operation == "CreateMultipartUpload"
        trial.inject(operation, lose_answer, key=key, times=times)

    return arrange


def _broken_bodies() -> t.Iterator[Case]:
    for name, count in (("start", 0), ("first", 1), ("middle", 500_000), ("last", -1)):
        yield Case(
            f"backup/put-part/reset-{name}-passes",
            BACKUP,
            f"the connection breaks within a part ({name} byte), once",
            meets("UploadPart", reset_in_body(count), times=1, skip=1),
            # This server gives up an upload whose part broke off.
            expected=EITHER,
            live="large",
        )
        yield Case(
            f"backup/put-part/reset-{name}",
            BACKUP,
            f"the connection breaks within each part ({name} byte)",
            meets("UploadPart", reset_in_body(count), skip=1),
            live="large",
        )
    for name, count in (("first", 1), ("header", 30), ("payload", 300), ("middle", 1000)):
        for broken, words in ((reset_after, "breaks off"), (end_after, "ends in good order")):
            yield Case(
                f"restore/get-dump/{broken.__name__}-{name}-passes",
                RESTORE,
                f"the download {words} after {count} bytes, twice",
                meets("GetObject", broken(count), key=DUMP, times=2),
                expected=SUCCEEDS,
            )
        yield Case(
            f"restore/get-dump/short-{name}",
            RESTORE,
            f"the download always ends after {count} bytes",
            meets("GetObject", end_after(count), key=DUMP),
        )
    yield Case(
        "restore/get-manifest/short",
        RESTORE,
        "the download of the manifest always ends after 20 bytes",
        meets("GetObject", end_after(20), key=LATEST),
    )
    yield Case(
        "restore/get-dump/replaced-midway",
        RESTORE,
        "the download breaks off, and the store has another object when it goes on",
        _replaced_midway,
        says="another object|SHA-256",
    )


def _replaced_midway(trial: Trial) -> None:
    """The good backup is put back before anybody looks."""
    key, data = trial.live.dump, trial.live.objects[trial.live.dump]

    def broken(exchange: Exchange) -> None:
        answer = exchange.forward()
        trial.replaces(key, data[::-1])
        exchange.send(answer, cut=5000)
        exchange.reset()

    trial.inject("GetObject", broken, key=DUMP, skip=2, times=1)
    # The first two look at its first bytes and try the key on it.
    trial.good.pop(key)
    trial.heals(lambda: trial.world.put(trial.bucket, key, data))


def _stalls() -> t.Iterator[Case]:
    def stalls(trial: Trial, fault: Fault, operation: str, key: str, times: int | None) -> None:
        trial.environment["FAULTS_READ_SECONDS"] = "1"
        trial.inject(operation, fault, key=key, times=times)

    def silent(released: threading.Event) -> Fault:
        def fault(exchange: Exchange) -> None:
            released.wait(20)
            exchange.reset()

        return fault

    for stage, name, operation, key in (
        (BACKUP, "get-latest", "GetObject", LATEST),
        (BACKUP, "put-dump", "PutObject", DUMP),
        (BACKUP, "put-latest", "PutObject", LATEST),
        (RESTORE, "get-dump", "GetObject", DUMP),
    ):
        for times, ending in ((1, "-passes"), (None, "")):

            def arrange(trial: Trial, operation: str = operation, key: str = key, times: int | None = times) -> None:
                released = threading.Event()
                trial.heals(released.set)
                stalls(trial, silent(released), operation, key, times)

            yield Case(
                f"{stage}/{name}/stall{ending}",
                stage,
                f"{operation} ({name}) is never answered" + (" once" if times else ""),
                arrange,
                expected=SUCCEEDS if times else FAILS,
            )

    def midway(trial: Trial) -> None:
        released = threading.Event()
        trial.heals(released.set)
        stalls(trial, amid(4000, lambda: released.wait(20)), "GetObject", DUMP, 1)

    yield Case("restore/get-dump/stall-midway-passes", RESTORE, "the download stalls midway, once", midway, SUCCEEDS)

    def slow_part(trial: Trial) -> None:
        released = threading.Event()
        trial.heals(released.set)

        def fault(exchange: Exchange) -> None:
            exchange.receive(1000)
            released.wait(20)
            exchange.reset()

        stalls(trial, Early(fault), "UploadPart", ".*", 1)

    yield Case(
        "backup/put-part/stall",
        BACKUP,
        "a part is taken no further than 1,000 bytes, once",
        slow_part,
        EITHER,
        live="large",
    )


def _ways() -> t.Iterator[Case]:
    """Wrong ways to the store; none of them may be taken for a store without backups."""
    arrangements: dict[str, tuple[str, t.Callable[[Trial], str], str]] = {
        "dns": ("the endpoint's name doesn't resolve", lambda trial: "https://s3.no-such-host.invalid", "resolved"),
        "refused": (
            "nothing listens at the endpoint",
            lambda trial: f"http://127.0.0.1:{_closed_port()}",
            "nothing answers",
        ),
        "hangs-up": ("the endpoint hangs up at once", lambda trial: _listener(trial, lambda conn: None), ""),
        "talks-ssh": (
            "another service answers at the endpoint",
            lambda trial: _listener(trial, lambda conn: conn.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")),
            "",
        ),
        "tls-unknown-ca": (
            "the certificate is of a CA that nobody vouches for",
            lambda trial: _tls(trial),  # pylint: disable=unnecessary-lambda  # it stands below
            "CERTIFICATE_VERIFY_FAILED",
        ),
        "tls-other-ca": (
            "the certificate is of another CA than the bundle's",
            lambda trial: _tls(trial, other=True),
            "CERTIFICATE_VERIFY_FAILED",
        ),
        "tls-other-name": (
            "the certificate is another host's",
            lambda trial: _tls(trial, host="127.0.0.2"),
            "CERTIFICATE_VERIFY_FAILED|doesn't match|not valid",
        ),
        "tls-on-http": (
            "TLS is spoken to a server that speaks none",
            lambda trial: trial.world.proxy.endpoint.replace("http:", "https:"),
            "",
        ),
        "http-on-tls": (
            "none is spoken to a server that speaks TLS",
            lambda trial: _tls(trial).replace("https:", "http:"),
            "",
        ),
    }
    for name, (words, endpoint_of, says) in arrangements.items():
        for stage in (BACKUP, RESTORE):

            def arrange(trial: Trial, endpoint_of: t.Callable[[Trial], str] = endpoint_of) -> None:
                trial.settings["S3_ENDPOINT"] = endpoint_of(trial)
                # The run has nowhere else to go to.
                trial.happened()

            yield Case(f"{stage}/way/{name}", stage, words, arrange, says=says, quick=name == "tls-unknown-ca")

    def behind_proxy(trial: Trial) -> None:
        trial.settings["S3_ENDPOINT"] = "http://s3.example.com"
        trial.environment["HTTP_PROXY"] = trial.environment["http_proxy"] = f"http://127.0.0.1:{_closed_port()}"
        trial.happened()

    yield Case("backup/way/proxy", BACKUP, "the proxy of the environment doesn't answer", behind_proxy, says="PROXY")

    def unreachable(trial: Trial) -> None:
        trial.settings["endpoint"] = f"http://127.0.0.1:{_closed_port()}"
        trial.happened()

    yield Case(
        "bootstrap/way/refused", BOOTSTRAP, "nothing listens at the endpoint", unreachable, says="nothing answers"
    )


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _listener(trial: Trial, speak: t.Callable[[socket.socket], None], *, context: ssl.SSLContext | None = None) -> str:
    """The URL of a server that does with each connection what *speak* does, and closes it."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                conn, _address = server.accept()
            except OSError:
                return
            try:
                with conn if context is None else context.wrap_socket(conn, server_side=True) as spoken:
                    speak(spoken)
            except OSError:
                conn.close()

    in_background(serve)
    # shutdown() ends an accept() that waits; close() alone doesn't.
    trial.heals(lambda: (server.shutdown(socket.SHUT_RDWR), server.close()))
    return f"{'http' if context is None else 'https'}://127.0.0.1:{server.getsockname()[1]}"


def _tls(trial: Trial, *, other: bool = False, host: str | None = None) -> str:
    directory = trial.world.directory / "tls"
    authority, certificate, key = make_certificates(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if other:
        trial.settings["S3_CA_BUNDLE"] = str(make_certificates(trial.world.directory / "tls-other")[0])
    url = _listener(trial, lambda conn: None, context=context)
    if host is None:
        return url
    trial.settings["S3_CA_BUNDLE"] = str(authority)
    # A server on all of the loopback would do as well: its certificate says 127.0.0.1 and localhost only.
    forward = _forwarder(trial, host, int(url.rsplit(":", 1)[1]))
    return f"https://{host}:{forward}"


def _forwarder(trial: Trial, host: str, port: int) -> int:
    """A port of *host* that leads to *port* of 127.0.0.1."""
    server = socket.create_server((host, 0))

    def pump(one: socket.socket, two: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                two.sendall(data)
        except OSError:
            pass
        finally:
            two.close()

    def serve() -> None:
        while True:
            try:
                conn, _address = server.accept()
            except OSError:
                return
            behind = socket.create_connection(("127.0.0.1", port))
            in_background(functools.partial(pump, conn, behind))
            in_background(functools.partial(pump, behind, conn))

    in_background(serve)
    trial.heals(lambda: (server.shutdown(socket.SHUT_RDWR), server.close()))
    return int(server.getsockname()[1])
