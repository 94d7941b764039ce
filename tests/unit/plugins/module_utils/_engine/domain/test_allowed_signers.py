# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of allowed_signers, read as OpenSSH reads them: its own ssh-keygen is asked what each of them means."""

from __future__ import annotations

import datetime
import pathlib
import shutil
import subprocess

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import allowed_signers

NAMESPACE = "manifest@infrazero.database"
NOON = datetime.datetime(2026, 2, 1, 12, tzinfo=datetime.timezone.utc)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"

needs_openssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with a key and a signature of it over "x"."""
    directory = tmp_path_factory.mktemp("signed")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")], check=True)
    sign = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(directory / "key"), "-n", NAMESPACE]
    done = subprocess.run(sign, input=b"x", check=True, capture_output=True)
    (directory / "sig").write_bytes(done.stdout)
    return directory


def counts(signed: pathlib.Path, line: str, moment: datetime.datetime = NOON) -> bool:
    """Whether OpenSSH takes the signature as db1's at *moment*."""
    path = signed / "allowed"
    path.write_text(line + "\n", encoding="utf-8")
    check = ["ssh-keygen", "-Y", "verify", "-f", str(path), "-I", "db1", "-n", NAMESPACE, "-s", str(signed / "sig")]
    check += ["-O", f"verify-time={moment:%Y%m%d%H%M%S}"]
    return subprocess.run(check, input=b"x", check=False, capture_output=True, env={"TZ": "UTC0"}).returncode == 0


def public_key(signed: pathlib.Path) -> str:
    return " ".join((signed / "key.pub").read_text(encoding="utf-8").split()[:2])


NAMES = (
    *("db1", "db2", "db1,db2", "*", "db?", "db??", "!db1,*", "*,!db1", "DB1", "db1,", "d*1", "d**b1*"),
    *('"db1"', '"db 1,db1"', 'd"b1"', '"db1', 'db1"', '""', "#db1", "\t db1"),
)
OPTIONS = (
    *("", 'namespaces="a b,manifest@*"', 'Namespaces="git"', 'namespaces="!manifest*,*"', "namespaces=manifest*"),
    *('namespaces="git",namespaces="*"', 'namespaces="a\\"b,*"', 'namespaces="*"namespaces="*"', 'namespaces="*'),
)


@needs_openssh
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("names", NAMES)
def test_names_and_namespaces_mean_what_openssh_takes_them_for(signed: pathlib.Path, names: str, options: str) -> None:
    line = f"{names} {options + ' ' if options else ''}{public_key(signed)}"
    entry = allowed_signers.read(line)
    assert (entry is not None and entry.matches("db1") and entry.counts_for(NAMESPACE)) == counts(signed, line)


@needs_openssh
@pytest.mark.parametrize(
    "options",
    [
        *('valid-before="20260201"', 'valid-before="202602011200"', 'valid-before="20260201115959"'),
        *('valid-before="20260201120000Z"', 'Valid-After="20260201120001"', 'valid-after="20260201120000"'),
        *(
            'valid-after="20260101",namespaces="manifest*",valid-before="20260301"',
            'valid-before="soon"',
            "valid-before",
        ),
        *(
            'valid-before="20260301",valid-before="20260401"',
            'valid-before="20269901"',
            'unknown,valid-before="20270101"',
        ),
        *(
            'namespaces="git",valid-before="20260301"',
            'valid-after="20260101"  ',
            'cert-authority,valid-before="20270101"',
        ),
    ],
)
def test_without_times_a_line_counts_as_it_did_at_that_moment(signed: pathlib.Path, options: str) -> None:
    line = f"db1 {options} {public_key(signed)} comment"
    bare = allowed_signers.valid_at(line, NOON)
    assert counts(signed, bare) == counts(signed, line)
    if counts(signed, line):
        assert "valid-" not in bare.lower()
        # Whatever the time: there is nothing left that an older OpenSSH can't read.
        assert counts(signed, bare, NOON.replace(year=2001))


def test_everything_else_stays_as_it_is() -> None:
    text = f'# valid-before="20270101"\n\nnonsense\ndb2 valid-before="20250101" {KEY}\ndb3  namespaces="git" {KEY}'
    assert allowed_signers.valid_at(text, NOON) == text
    times = 'valid-after="20250101",namespaces="a b",VALID-before="20270101"'
    assert (
        allowed_signers.valid_at(f' "db 1"\t{times}  {KEY} me\r\n', NOON) == f' "db 1"\tnamespaces="a b" {KEY} me\r\n'
    )


@needs_openssh
@pytest.mark.parametrize("options", ["", 'namespaces="manifest@*"', 'valid-after="20250101"'])
def test_a_line_with_an_end_counts_until_then(signed: pathlib.Path, options: str) -> None:
    entry = allowed_signers.read(f"db1 {options + ' ' if options else ''}{public_key(signed)}")
    assert entry
    ended = entry.until(NOON)
    assert counts(signed, ended) and not counts(signed, ended, NOON.replace(second=1))
    again = allowed_signers.read(ended)
    assert again and again.end == NOON and again.until(NOON.replace(year=2030)) == ended
