# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures by the real ssh-keygen."""

from __future__ import annotations

import base64
import datetime
import functools
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError
from ansible_collections.infrazero.database.plugins.module_utils._engine.signing import sshsig
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.process import child_environment, run

from tests.support.signing import SigningHost

RUN = functools.partial(run, phase="trust", environment=child_environment({"TZ": "UTC0"}))
MESSAGE = b'{"key":"db/app/20260131T032000Z.sql.gz.age"}'
MOMENT = datetime.datetime(2026, 1, 31, 3, 20, tzinfo=datetime.timezone.utc)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningHost, SigningHost]:
    directory = tmp_path_factory.mktemp("keys")
    return SigningHost.make(directory, "db1"), SigningHost.make(directory, "db2")


@pytest.fixture(scope="module")
def signature(hosts: tuple[SigningHost, SigningHost]) -> str:
    return sshsig.sign(MESSAGE, path=str(hosts[0].path), run=RUN)


def verify(
    signature: str,
    *,
    allowed_signers: str,
    message: bytes = MESSAGE,
    signer: str = "db1",
    moment: datetime.datetime = MOMENT,
    revoked_keys: str = "",
) -> trust.Verdict:
    return sshsig.verify(
        message,
        signature,
        signer=signer,
        moment=moment,
        allowed_signers=allowed_signers,
        revoked_keys=revoked_keys,
        run=RUN,
    )


def test_a_trusted_hosts_signature_is_good(hosts: tuple[SigningHost, SigningHost], signature: str) -> None:
    allowed = "# the fleet\n\n" + hosts[1].line + hosts[0].line
    verdict = verify(signature, allowed_signers=allowed, revoked_keys=f"{hosts[1].public_key} lost\n")
    assert verdict.reason == trust.GOOD
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(hosts[0].path)], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert verdict.key == listed.split()[1]


@pytest.mark.parametrize(("ends", "reason"), [("20260201", trust.GOOD), ("20260131", trust.ELSEWHERE)])
def test_an_openssh_that_knows_no_times_takes_a_line_with_some(
    hosts: tuple[SigningHost, SigningHost], signature: str, ends: str, reason: str
) -> None:
    def old(argv: t.Sequence[str], *, stdin: bytes | None = None, pass_fds: t.Sequence[int] = ()) -> bytes:
        """Debian 11's: a line with an option that it doesn't know is none to it."""
        argv, passed = (
            list(argv),
            pathlib.Path(argv[argv.index("-f") + 1] if "-f" in argv else "/dev/null").read_bytes(),
        )
        if b"valid-" in passed:
            argv[argv.index("-f") + 1] = "/dev/null"
        return RUN(argv, stdin=stdin, pass_fds=pass_fds)

    verdict = sshsig.verify(
        MESSAGE,
        signature,
        signer="db1",
        moment=MOMENT,
        allowed_signers=hosts[0].line.replace("namespaces", f'valid-before="{ends}",namespaces'),
        revoked_keys="",
        run=old,
    )
    assert verdict.reason == reason


def test_every_byte_of_the_message_counts(hosts: tuple[SigningHost, SigningHost], signature: str) -> None:
    for message in (MESSAGE + b"\n", MESSAGE[:-1], MESSAGE.replace(b"app", b"apq"), b""):
        assert verify(signature, message=message, allowed_signers=hosts[0].line).reason == trust.ALTERED


def flipped(text: str) -> str:
    """The signature with its last bit flipped."""
    first, *lines, last = text.strip().split("\n")
    blob = bytearray(base64.b64decode("".join(lines)))
    blob[-1] ^= 1
    return "\n".join([first, base64.b64encode(blob).decode(), last])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        lambda text: text.replace("U1NIU0lH", "U1NIU0lI"),
        lambda text: text[:-60] + "\n-----END SSH SIGNATURE-----\n",
        lambda text: text * 2,
        lambda text: text.replace("\n", "\n" * 20000),
        lambda text: "\0" + text,
        lambda text: text.replace("\n", "\n" * 7000, 1).replace("-----END", "-----end"),
        lambda text: text.replace("U1NIU0lH", "\u00e9"),
        flipped,
    ],
)
def test_a_spoilt_signature_is_no_signature(
    hosts: tuple[SigningHost, SigningHost], signature: str, spoil: t.Callable[[str], str]
) -> None:
    assert spoil(signature) != signature
    assert verify(spoil(signature), allowed_signers=hosts[0].line).reason == trust.ALTERED


def test_a_signature_for_anything_else_does_not_count(hosts: tuple[SigningHost, SigningHost]) -> None:
    done = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", str(hosts[0].path), "-n", "git"],
        input=MESSAGE,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert verify(done.stdout.decode(), allowed_signers=hosts[0].line).reason == trust.ALTERED


def test_an_unknown_key_is_told_from_a_revoked_one(hosts: tuple[SigningHost, SigningHost], signature: str) -> None:
    first, second = hosts
    assert verify(signature, allowed_signers=second.line).reason == trust.UNKNOWN
    both = first.line + second.line
    assert verify(signature, allowed_signers=both, revoked_keys=first.public_key + "\n").reason == trust.REVOKED
    # A file of revoked keys that can't be read revokes everything.
    assert verify(signature, allowed_signers=both, revoked_keys="junk\n").reason == trust.ELSEWHERE


def test_a_key_signs_for_its_own_host_only(hosts: tuple[SigningHost, SigningHost], signature: str) -> None:
    verdict = verify(signature, signer="db2", allowed_signers=hosts[0].line + hosts[1].line)
    assert verdict.reason == trust.ELSEWHERE
    assert verify(signature, signer="db2", allowed_signers=f"db1,db2 {hosts[0].public_key}\n").reason == trust.GOOD


def test_the_times_of_a_key_are_utc(hosts: tuple[SigningHost, SigningHost], signature: str) -> None:
    def limited(option: str) -> trust.Verdict:
        return verify(signature, allowed_signers=f"db1 {option} {hosts[0].public_key}\n")

    assert limited('valid-before="20260131032001"').reason == trust.GOOD
    assert limited('valid-after="20260131031959"').reason == trust.GOOD
    late = limited('valid-before="20260131031959"')
    assert (late.reason, "expired" in late.cause) == (trust.ELSEWHERE, True)
    assert limited('valid-after="20260131032001"').reason == trust.ELSEWHERE


def test_the_private_key_is_proven_beforehand(hosts: tuple[SigningHost, SigningHost], tmp_path: pathlib.Path) -> None:
    assert sshsig.public_key(str(hosts[0].path), run=RUN) == hosts[0].public_key
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a phrase", "-f", str(locked)], check=True)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    for path in (locked, empty, hosts[0].path.with_suffix(".pub")):
        with pytest.raises(ConfigurationError, match="can't be used"):
            sshsig.public_key(str(path), run=RUN)


def test_the_key_in_a_signature(hosts: tuple[SigningHost, SigningHost], signature: str) -> None:
    assert trust.key_of(signature) == hosts[0].public_key.split()[1]
    armor = "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----"
    for blob in (b"", b"SSHSIG", b"SSHSIG" + bytes(4) + b"\xff" * 4, b"sshsig" + bytes(8)):
        assert trust.key_of(armor.format(base64.b64encode(blob).decode())) is None
