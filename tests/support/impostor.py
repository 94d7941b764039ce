# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local user who listens where PostgreSQL should: run as a program, with nothing but the standard library.

``impostor.py MODE PLACE PORT [TARGET]``; PLACE is an address or a socket's directory.

- ``trusting``: lets everybody in, and answers every statement with success, a COPY with the rows that it got.
- ``asking``: asks for the password in clear.
- ``relay``: passes everything on to the address TARGET, same port.
- ``relay-same-port``: likewise, from the source port of the client itself.

What clients send goes to standard output.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ATTACKER = "nobody"


class Impostor:
    """The program, running as the user ``nobody``; a context."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = [str(argument) for argument in arguments]

    def __enter__(self) -> Impostor:
        self._log = tempfile.TemporaryFile()
        user = pwd.getpwnam(ATTACKER)
        source = pathlib.Path(__file__).read_text(encoding="utf-8")
        self._process = subprocess.Popen(
            [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", source, *self._arguments],
            stdout=self._log,
            stderr=subprocess.PIPE,
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
        )
        assert self._process.stderr is not None
        ready = self._process.stderr.readline()
        if ready != b"ready\n":
            raise RuntimeError((ready + self._process.stderr.read()).decode())
        return self

    @property
    def heard(self) -> bytes:
        """What clients have sent so far."""
        self._log.seek(0)
        return self._log.read()

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._log.close()


# The program --------------------------------------------------------------------------------------------------------


def _main(mode: str, place: str, port: str, target: str = "") -> None:
    if place.startswith("/"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{place}/.s.PGSQL.{port}")
        pathlib.Path(f"{place}/.s.PGSQL.{port}").chmod(0o777)  # as the server does
    else:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((place, int(port)))
    listener.listen()
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    while True:
        client, address = listener.accept()
        if mode.startswith("relay"):
            source = address[1] if mode == "relay-same-port" else 0
            threading.Thread(target=_relay, args=(client, target, int(port), source), daemon=True).start()
        else:
            threading.Thread(target=_serve, args=(client, mode), daemon=True).start()


def _relay(client: socket.socket, target: str, port: int, source: int) -> None:
    server = socket.socket()
    if source:
        # Linux: choose the port when the connection is made, from a range of one.
        server.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        server.setsockopt(socket.IPPROTO_IP, 51, struct.pack("=I", source << 16 | source))  # IP_LOCAL_PORT_RANGE
    server.bind(("127.0.0.1", 0))
    server.connect((target, port))

    def pump(one: socket.socket, other: socket.socket) -> None:
        while True:
            data = one.recv(65536)
            if not data:
                break
            if one is client:
                os.write(1, data)
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)

    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise SystemExit
        data += piece
    os.write(1, data)
    return data


def _serve(client: socket.socket, mode: str) -> None:
    def send(kind: bytes, body: bytes) -> None:
        client.sendall(kind + struct.pack(">I", len(body) + 4) + body)

    while True:
        length, code = struct.unpack(">II", _exactly(client, 8))
        if code not in (80877103, 80877104):  # TLS, GSSAPI
            break
        client.sendall(b"N")
    _exactly(client, length - 8)
    if mode == "asking":
        send(b"R", struct.pack(">I", 3))
        time.sleep(3600)
    send(b"R", struct.pack(">I", 0))
    for name, value in (
        ("server_version", "15.0"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "off"),
        ("DateStyle", "ISO, MDY"),
    ):
        send(b"S", f"{name}\0{value}\0".encode())
    send(b"K", struct.pack(">II", 1, 1))
    rows = 0
    while True:
        send(b"Z", b"I")
        while True:
            kind = _exactly(client, 1)
            body = _exactly(client, struct.unpack(">I", _exactly(client, 4))[0] - 4)
            if kind == b"X":
                return
            if kind == b"Q" and b"FROM stdin" in body:
                rows = 0
                send(b"G", b"\0\0\0")
            elif kind == b"Q":
                send(b"C", b"SET\0")
                break
            elif kind == b"d":
                rows += body.count(b"\n")
            elif kind == b"c":
                send(b"C", b"COPY %d\0" % rows)
                break


if __name__ == "__main__":
    _main(*sys.argv[1:])
