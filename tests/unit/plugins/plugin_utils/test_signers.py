# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host can put into the file that says whose backups are accepted: its own key, under its own name."""

from __future__ import annotations

import base64
import datetime
import pathlib
import struct
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError
from ansible_collections.infrazero.database.plugins.plugin_utils import signers

NOW = datetime.datetime(2026, 2, 1, 12, 30, tzinfo=datetime.timezone.utc)
ENDS = 'valid-before="20260201123000"'


def blob(number: int, kind: bytes = b"ssh-ed25519", size: int = 32) -> str:
    """The base64 of a made-up public key."""
    return base64.b64encode(
        struct.pack(">I", len(kind)) + kind + struct.pack(">I", size) + bytes([number] * size)
    ).decode()


ONE, TWO, THREE = (f"ssh-ed25519 {blob(number)}" for number in (1, 2, 3))


def line(names: str, key: str, options: str = 'namespaces="manifest@infrazero.database"') -> str:
    return f"{names} {options + ' ' if options else ''}{key}\n"


def gathered(text: str, name: str = "db1", public_key: str = ONE, **rest: t.Any) -> str:
    return signers.gathered(text, name=name, public_key=public_key, now=NOW, **rest)


def refused(text: str, name: str = "db1", public_key: str = ONE, **rest: t.Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        gathered(text, name, public_key, **rest)
    assert name in caught.value.message and caught.value.hint
    return str(caught.value)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["db1", "db-1.example.com", "10.0.0.1", "root@db1", "a:b+c", "_x", "fe80::1"])
def test_a_host_signs_under_its_name_in_the_inventory(name: str) -> None:
    assert signers.signing_name(name, node="vm-17") == name


@pytest.mark.parametrize("name", sorted(signers.LOCAL))
def test_a_host_that_is_its_own_controller_signs_under_its_node_name(name: str) -> None:
    assert signers.signing_name(name, node="vm-17") == "vm-17"
    with pytest.raises(ConfigurationError, match=r"under the name '\*'"):
        signers.signing_name(name, node="*")


@pytest.mark.parametrize(
    "name", ["", "*", "db?", "!db1", "db1,db2", "db 1", '"db1"', "db1\n", "db1\ndb2", "-f", "#db1", "dß", "a" * 256]
)
def test_a_name_that_would_mean_more_than_itself_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot sign backups") as caught:
        signers.signing_name(name, node="vm-17")
    assert "infrazero_signing_name" in caught.value.hint


# Keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ONE, f"{ONE}\n", f"{ONE} root@vm-17\n", f"{ONE} * cert-authority\n"])
def test_a_key_is_gathered_without_its_comment(text: str) -> None:
    assert gathered("", public_key=text) == line("db1", ONE)
    assert signers.signer_line(text, "db1") + "\n" == line("db1", ONE)


HOSTILE_KEYS = {
    "nothing": "",
    "several lines": f"{ONE}\n{TWO}\n",
    "a line of its own": f"{ONE}\n* {TWO}\n",
    "a line after a carriage return": f"{ONE} comment\r* {TWO}\n",
    "a name in front": f"* {ONE}\n",
    "an option in front": f"cert-authority {ONE}\n",
    "a quoted option in front": f'namespaces="git" {ONE}\n',
    "a blank in front": f" {ONE}\n",
    "no key": "ssh-ed25519\n",
    "no type": f"{blob(1)}\n",
    "RSA": f"ssh-rsa {blob(1, b'ssh-rsa')}\n",
    "RSA that says it is Ed25519": f"ssh-ed25519 {blob(1, b'ssh-rsa')}\n",
    "a certificate": f"ssh-ed25519-cert-v01@openssh.com {blob(1)}\n",
    "a certificate inside": f"ssh-ed25519 {blob(1, b'ssh-ed25519-cert-v01@openssh.com')}\n",
    "too short": f"ssh-ed25519 {blob(1, size=31)}\n",
    "too long": f"ssh-ed25519 {blob(1, size=33)}\n",
    "more behind the key": f"ssh-ed25519 {base64.b64encode(base64.b64decode(blob(1)) + b'x').decode()}\n",
    "garbage": "ssh-ed25519 !!!!\n",
    "base64 cut": f"ssh-ed25519 {blob(1)[:-3]}\n",
    "padding that is none": f"{ONE}=\n",
    "a tab": f"ssh-ed25519\t{blob(1)}\n",
    "not ASCII": f"\u017fsh-ed25519 {blob(1)}\n",
    "NUL": f"{ONE}\0\n",
}


@pytest.mark.parametrize("text", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_what_is_not_one_ed25519_key_is_refused(text: str) -> None:
    assert "did not answer with the public half of an Ed25519 key" in refused(line("db2", TWO), public_key=text)
    with pytest.raises(ConfigurationError):
        signers.signer_line(text, "db1")


# What is added --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", line("db2", TWO), line("db2", TWO).rstrip("\n"), "# ours\n\n", "unreadable\n"])
def test_a_key_of_a_new_host_is_appended(text: str) -> None:
    once = gathered(text)
    assert once == text + ("\n" if text and not text.endswith("\n") else "") + line("db1", ONE)
    assert gathered(once) == once


@pytest.mark.parametrize(
    "text",
    [
        line("db1", ONE),
        line("db1", ONE, "").rstrip("\n"),
        line("db0,db1", ONE, 'valid-after="20250101",namespaces="git,manifest@*"'),
        line('"db1"', ONE),
        line("db?", ONE),
        line("db1", ONE, 'valid-before="20260201123001"'),
        line("db1", ONE) + line("db1", TWO),
        line("db1", ONE, ENDS) + line("db1", ONE),
        f"  db1\t {ONE} comment\r\n",
    ],
)
def test_a_line_that_lists_the_key_stays_as_the_user_has_written_it(text: str) -> None:
    assert gathered(text) == text
    assert gathered(text, replace=True) == text


# One key for one name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        line("db1", TWO),
        line("db1", TWO, ""),
        line("db1", TWO, ENDS),
        line("db0,db1", TWO),
        line("*", TWO),
        line("!db2,db?", TWO),
        line('"db1"', TWO),
        line("*", TWO, "cert-authority"),
        line("db1", TWO, 'namespaces="m\\"x,*@infrazero.database",Valid-After="2025 01"'),
        line("db1", f"ssh-rsa {blob(1, b'ssh-rsa')}"),
    ],
)
def test_a_new_key_for_a_name_that_has_one_is_refused(text: str) -> None:
    error = refused(text)
    assert "has a new signing key" in error and "infrazero_rotate_signing_key=true" in error
    assert trust.fingerprint(blob(1)) in error


@pytest.mark.parametrize("text", [line("!db1,db*", TWO), line("db1", TWO, 'namespaces="git"'), line("DB1", TWO)])
def test_a_line_that_does_not_count_for_the_name_takes_nothing_from_it(text: str) -> None:
    assert gathered(text) == text + line("db1", ONE)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (line("db1", TWO), line("db1", TWO, f'{ENDS},namespaces="manifest@infrazero.database"')),
        (line("db1", TWO, ""), line("db1", TWO, ENDS)),
        (line("db1,vm-17", TWO, ""), line("db1,vm-17", TWO, ENDS)),
        (line("  db1", TWO, 'valid-after="20250101"'), line("  db1", TWO, f'{ENDS},valid-after="20250101"')),
        (line("db1", TWO, 'valid-before="20250101"'), line("db1", TWO, 'valid-before="20250101"')),
        # Of others as well, or of whoever has a certificate: the operator's.
        (line("db1,db2", TWO), line("db1,db2", TWO)),
        (line("db*", TWO), line("db*", TWO)),
        (line("db1", TWO, "cert-authority"), line("db1", TWO, "cert-authority")),
        (line("db1", TWO, 'namespaces="git"'), line("db1", TWO, 'namespaces="git"')),
    ],
)
def test_where_it_is_asked_for_the_older_key_ends_now(text: str, changed: str) -> None:
    around = "# mine\n", line("db2", THREE) + "what is this\n"
    replaced = gathered(text.join(around), replace=True, others=["db2"])
    assert replaced == changed.join(around) + line("db1", ONE)
    assert gathered(replaced, others=["db2"]) == replaced


def test_a_key_that_was_replaced_does_not_come_back() -> None:
    error = refused(line("db1", ONE, ENDS) + line("db1", TWO))
    assert "signs with a key that was replaced" in error
    assert gathered(line("db1", ONE, 'valid-before="nonsense"')) == line("db1", ONE, 'valid-before="nonsense"')


# One name for one key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        line("db2", ONE),
        line("db2,db3", ONE),
        line("!db1,*", ONE),
        line("db2", ONE, 'namespaces="git"'),
        line("db1", ONE, "cert-authority"),
        line("db1", ONE) + line("db2", ONE),
    ],
)
def test_a_key_that_is_listed_under_another_name_is_refused(text: str, replace: bool) -> None:
    error = refused(text, node="vm-17", replace=replace, others=["db2"])
    assert "a signing key that is not its own" in error


def test_the_name_of_0_1_gets_that_of_the_inventory() -> None:
    old = line("vm-17", ONE)
    upgraded = gathered("# mine\n" + old + line("db2", TWO), node="vm-17", others=["db2"])
    assert upgraded == "# mine\n" + line("db1,vm-17", ONE) + line("db2", TWO)
    assert gathered(upgraded, node="vm-17", others=["db2"]) == upgraded
    assert "it also counts as vm-17" in signers.report(upgraded, name="db1", public_key=ONE)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (line("vm-17", ONE), "vm-18"),
        (line("vm-17", ONE), "*"),
        (line("vm-17", ONE), "vm-17,db2"),
        (line("vm-17,vm-18", ONE), "vm-17,vm-18"),
        (line("*", ONE).replace("*", "!db1,*"), "!db1,*"),
        (line("db2", ONE), "db2"),
        (line("vm-17", ONE, "cert-authority"), "vm-17"),
    ],
)
def test_a_host_cannot_take_another_name_by_its_node_name(text: str, node: str) -> None:
    refused(text, node=node, others=["db2", "db3"])


def test_the_name_of_0_1_is_no_way_to_a_name_that_has_a_key() -> None:
    text = line("vm-17", ONE) + line("db1", TWO)
    assert "has a new signing key" in refused(text, node="vm-17")
    ends = f'{ENDS},namespaces="manifest@infrazero.database"'
    assert gathered(text, node="vm-17", replace=True) == line("db1,vm-17", ONE) + line("db1", TWO, ends)


# What is said ---------------------------------------------------------------------------------------------------------


def test_what_a_run_reports() -> None:
    text = line("db1", TWO) + line("db*", THREE)
    said = signers.report(gathered(text, replace=True), name="db1", public_key=ONE)
    first, second, third = (trust.fingerprint(blob(number)) for number in (1, 2, 3))
    assert said == (
        f"db1 signs with the key {first}; "
        f"its key {second} counts only for backups from before 2026-02-01 12:30:00 UTC; "
        f"the key {third} still counts, because its line is not only for db1: remove it by hand if necessary"
    )


# By default -----------------------------------------------------------------------------------------------------------


def test_keys_are_gathered_beside_the_inventory_unless_it_has_the_lines() -> None:
    assert signers.file_beside("/srv/inventory") == "/srv/inventory/allowed_signers"
    assert signers.file_beside("/srv/inventory", lines=[line("db1", ONE)]) == ""
    # Ansible's own word for the inventory localhost, is a text.
    assert signers.file_beside(None) == signers.file_beside("") == signers.file_beside("None") == ""


def warned(public_key: str = ONE, *, path: str = "", lines: str = "", text: str = "") -> str:
    return signers.warning(public_key, name="db1", path=path, lines=lines, text=text)


def test_a_key_that_is_gathered_or_can_be_causes_no_warning(tmp_path: pathlib.Path) -> None:
    assert warned(path=str(tmp_path / "allowed_signers")) == ""
    assert warned("", path=str(tmp_path / "allowed_signers")) == ""
    # Nothing has to be written.
    assert warned(path="/nonexistent/allowed_signers", text=line("db1", ONE)) == ""
    assert warned(lines=line("db2", TWO) + line("db1,old", ONE, 'valid-after="20260101"')) == ""


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({}, "the inventory has no directory"),
        ({"path": "/nonexistent/allowed_signers"}, "/nonexistent/allowed_signers cannot be written"),
        ({"path": "/nonexistent/allowed_signers", "text": line("db1", TWO)}, "cannot be written"),
        ({"lines": line("db1", TWO)}, "infrazero_allowed_signers has no line for it"),
    ],
)
def test_a_key_that_is_kept_nowhere_causes_a_warning_with_its_line(rest: dict[str, str], reason: str) -> None:
    text = warned(**rest)
    assert text.startswith("the signing key of db1 is kept nowhere but on the host itself: ") and reason in text
    assert text.endswith(f"keep this line: {line('db1', ONE).strip()}")
    unknown = warned("", **rest)
    assert reason in unknown and "without --check" in unknown


def on_host(text: str, public_key: str = ONE, **rest: t.Any) -> str:
    return signers.on_host(text, name="db1", public_key=public_key, **rest)


def entries(text: str) -> str:
    return "".join(f"{each}\n" for each in text.splitlines() if each and not each.startswith("#"))


def test_a_host_has_the_inventorys_lines_and_its_own() -> None:
    others = line("db2", TWO)
    assert entries(on_host(others)) == others + line("db1", ONE)
    assert entries(on_host(others + line("db1,old", ONE))) == others + line("db1,old", ONE)
    assert entries(on_host(others, "")) == others


def test_what_a_host_had_before_is_kept_if_that_is_wanted() -> None:
    """Somebody has written lines there while nothing was gathered."""
    found = line("db1", ONE) + "# from Ann\n" + line("old", THREE)
    first = on_host(line("db2", TWO), found=found, keep=True)
    assert entries(first) == line("db2", TWO) + line("db1", ONE) + line("old", THREE)
    assert on_host(line("db2", TWO), found=first, keep=True) == first
    assert "old" not in on_host(line("db2", TWO), found=first)
    assert "old" not in on_host(line("db2", TWO), found=found)
    # A line of the inventory is gone when it is gone from there.
    second = on_host(line("db4", f"ssh-ed25519 {blob(4)}"), found=first, keep=True)
    assert entries(second) == line("db4", f"ssh-ed25519 {blob(4)}") + line("db1", ONE) + line("old", THREE)
    # One that it lists now is not listed twice.
    assert entries(on_host(line("old", THREE), found=first, keep=True)) == line("old", THREE) + line("db1", ONE)
