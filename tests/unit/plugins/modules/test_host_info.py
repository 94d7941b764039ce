# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about this machine, which is the host."""

from __future__ import annotations

import getpass
import grp
import hashlib
import hmac
import json
import os
import pathlib
import platform
import pwd
import subprocess
import sys
import tempfile
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.infrazero.database.plugins.modules import host_info

SALT = "canary of a salt"
SECRET = "canary of a password"
ROOT = os.geteuid() == 0


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    """Runs the module."""

    def run(**options: t.Any) -> dict[str, t.Any]:
        with patch_module_args(options), pytest.raises(SystemExit) as ended:
            host_info.main()
        output = capsys.readouterr().out
        assert ended.value.code == 0, output
        for hidden in (SALT, SECRET):
            assert hidden not in output
        result = json.loads(output)
        assert result["changed"] is False
        return result

    return run


@pytest.fixture
def directory() -> t.Iterator[pathlib.Path]:
    """A directory that other users can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        yield path


def test_what_is_not_asked_is_not_answered(ask) -> None:
    assert {name: value for name, value in ask().items() if name not in ("invocation", "changed")} == {
        "node": platform.node(),
        "python": {"version": "{}.{}".format(*sys.version_info), "machine": platform.machine(), "venv": True},
        "paths": {},
        "user": None,
        "closed": {},
        "commands": {},
        "units": {},
        "postgresql": host_info.server_versions(pathlib.Path("/")),
        "signing_key": None,
    }


def test_paths(ask, tmp_path: pathlib.Path) -> None:
    file, link, pipe, broken = (tmp_path / name for name in ("db.env", "link", "pipe", "broken"))
    file.write_text(SECRET)
    file.chmod(0o600)
    link.symlink_to("db.env")
    broken.symlink_to("nowhere")
    os.mkfifo(pipe, 0o644)
    tmp_path.chmod(0o1750)
    asked = [file, link, pipe, broken, tmp_path, tmp_path / "none", file / "below"]
    paths = ask(paths=[*map(str, asked)], salt=SALT)["paths"]
    mine = {"owner": getpass.getuser(), "group": grp.getgrgid(tmp_path.stat().st_gid).gr_name}
    digest = hmac.new(SALT.encode(), SECRET.encode(), hashlib.sha256).hexdigest()
    nothing = {"target": None, "digest": None}
    absent = {"exists": False, "type": None, "owner": None, "group": None, "mode": None, **nothing}
    assert paths == {
        str(file): {"exists": True, "type": "file", "mode": "0600", **mine, "target": None, "digest": digest},
        str(link): {"exists": True, "type": "link", "mode": "0777", **mine, "target": "db.env", "digest": None},
        str(pipe): {"exists": True, "type": "other", "mode": "0644", **mine, **nothing},
        str(broken): {"exists": True, "type": "link", "mode": "0777", **mine, "target": "nowhere", "digest": None},
        str(tmp_path): {"exists": True, "type": "directory", "mode": "1750", **mine, **nothing},
        str(tmp_path / "none"): absent,
        str(file / "below"): absent,
    }


def test_without_a_salt_there_is_no_digest_that_could_be_guessed(ask, tmp_path: pathlib.Path) -> None:
    (tmp_path / "db.env").write_text(SECRET)
    facts = ask(paths=[str(tmp_path / "db.env")])["paths"][str(tmp_path / "db.env")]
    assert facts["exists"] and facts["digest"] is None and "text" not in facts


@pytest.mark.parametrize(
    ("data", "text"),
    [("ü\n".encode(), "ü\n"), (b"", ""), (b"\xff", None), (b"x" * host_info.TEXT_LIMIT, "x" * host_info.TEXT_LIMIT)],
)
def test_texts(ask, tmp_path: pathlib.Path, data: bytes, text: str | None) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(data)
    link.symlink_to(file)
    paths = ask(texts=[str(file), str(link), str(tmp_path)])["paths"]
    assert paths[str(file)]["text"] == text
    assert paths[str(link)]["text"] is None and paths[str(tmp_path)]["text"] is None
    file.write_bytes(data + b"x" * host_info.TEXT_LIMIT + b"x")
    assert ask(texts=[str(file)])["paths"][str(file)]["text"] is None


def test_an_owner_without_a_name(ask, tmp_path: pathlib.Path) -> None:
    if not ROOT:
        pytest.skip("only root can give a file away")
    os.chown(tmp_path, 123456, 123457)
    facts = ask(paths=[str(tmp_path)])["paths"][str(tmp_path)]
    assert (facts["owner"], facts["group"]) == ("123456", "123457")


def test_user(ask) -> None:
    account = pwd.getpwuid(os.geteuid())
    expected = {"name": account.pw_name, "uid": account.pw_uid, "home": account.pw_dir}
    assert ask(user=account.pw_name)["user"] == expected
    assert ask(user="nobody-here", reachable=["/opt"])["user"] is None


@pytest.mark.skipif(not ROOT, reason="only root can ask for another user")
def test_directories_that_are_closed_to_the_user(ask, directory: pathlib.Path) -> None:
    closed = directory / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0o700)
    paths = [str(closed / "below" / "opt"), str(closed), str(directory / "none" / "opt")]
    assert ask(user="nobody", reachable=paths)["closed"] == dict(zip(paths, [str(closed), None, None]))
    assert ask(user="root", reachable=paths)["closed"] == dict.fromkeys(paths)
    assert os.geteuid() == 0
    assert ask(reachable=paths)["closed"] == dict.fromkeys(paths)


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_without_privileges(directory: pathlib.Path) -> None:
    """It answers what the user may know, and null for the rest."""
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    (directory / "secret").write_text(SECRET)
    (directory / "secret").chmod(0o600)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            user = {"uid": os.geteuid()}
            answers = [
                host_info.path_facts(str(closed / "file"), salt="x", text=True),
                host_info.path_facts(str(directory / "secret"), salt="x", text=True),
                host_info.closed_directories([str(closed / "file")], user),
                host_info.closed_directories([str(closed / "file")], {"uid": 0}),
            ]
            with os.fdopen(writer, "w") as stream:
                json.dump(answers, stream)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as stream:
        hidden, unreadable, own, others = json.load(stream)
    os.waitpid(child, 0)
    assert hidden["exists"] is None
    assert unreadable["exists"] is True and unreadable["mode"] == "0600"
    assert unreadable["digest"] is None and unreadable["text"] is None
    assert own == {str(closed / "file"): str(closed)}
    assert others == {str(closed / "file"): None}


def test_commands(ask, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours").touch(mode=0o755)
    (tmp_path / "no-program").touch(mode=0o644)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert ask(commands=["ours", "no-program", "none"])["commands"] == {
        "ours": str(tmp_path / "ours"),
        "no-program": None,
        "none": None,
    }


def script(path: pathlib.Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_units_of_a_running_systemd(ask, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [
        "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no",
        "UnitFileState=\nActiveState=inactive\nNeedDaemonReload=yes",
    ]
    script(tmp_path / "systemctl", "[ $# -eq 5 ] || exit 1\ncat <<'EOF'\n" + "\n\n".join(blocks) + "\nEOF")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert ask(units=["backup.timer", "none.timer"])["units"] == {
        "backup.timer": {"enabled": True, "active": True, "reload_needed": False},
        "none.timer": {"enabled": False, "active": False, "reload_needed": True},
    }


def test_units_where_systemd_does_not_run(ask, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "systemctl", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    unknown = {"enabled": False, "active": None, "reload_needed": None}
    assert ask(units=["none.timer"])["units"] == {"none.timer": unknown}


def test_node_name_is_what_uname_prints(ask, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "uname", "printf 'a b\\n* \\n'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert ask()["node"] == "a b\n* "


def test_another_python(ask, tmp_path: pathlib.Path) -> None:
    other = script(tmp_path / "python", 'echo \'{"version": "3.6", "machine": "x", "venv": false}\'')
    assert ask(python=other)["python"] == {"version": "3.6", "machine": "x", "venv": False}
    assert ask(python=sys.executable)["python"]["version"] == "{}.{}".format(*sys.version_info)
    assert ask(python=script(tmp_path / "broken", "exit 1"))["python"] is None
    assert ask(python=script(tmp_path / "garbage", "echo garbage"))["python"] is None
    assert ask(python=str(tmp_path / "none"))["python"] is None


# The signing key ------------------------------------------------------------------------------------------------------


def new_key(path: pathlib.Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "db1", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text(encoding="utf-8").rstrip("\n")


def test_signing_key(ask, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "id_ed25519"
    nothing = {"path": str(path), "exists": False, "public": None, "derived": None, "matches": None}
    assert ask(signing_key=str(path))["signing_key"] == nothing
    public = new_key(path)
    facts = ask(signing_key=str(path))["signing_key"]
    assert facts["derived"].split()[:2] == public.split()[:2]
    assert {**facts, "derived": None} == {**nothing, "exists": True, "public": public, "matches": True}
    path.with_suffix(".pub").write_text(new_key(tmp_path / "another"), encoding="utf-8")
    assert ask(signing_key=str(path))["signing_key"]["matches"] is False


def test_a_key_that_needs_a_passphrase_is_not_asked_for_one(ask, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "id_ed25519"
    public = new_key(path)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "passphrase", "-f", str(path)], check=True)
    facts = ask(signing_key=str(path))["signing_key"]
    assert (facts["exists"], facts["public"], facts["derived"], facts["matches"]) == (True, public, None, None)


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}\n",
        "",
        "ssh-ed25519 AAAA\n" + SECRET + "\n",
        f"{SECRET} ssh-ed25519 AAAA\n",
        "* ssh-rsa AA\n",
    ],
)
def test_what_is_not_a_public_key_is_not_returned(ask, tmp_path: pathlib.Path, text: str) -> None:
    """Whoever may write to the directory of the key must not read other files with the module's privileges."""
    path = tmp_path / "id_ed25519"
    new_key(path)
    path.with_suffix(".pub").write_text(text, encoding="utf-8")
    assert ask(signing_key=str(path))["signing_key"]["public"] is None


def test_a_link_in_place_of_the_public_half_is_not_followed(ask, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "id_ed25519"
    new_key(path)
    path.with_suffix(".pub").rename(tmp_path / "another.pub")
    path.with_suffix(".pub").symlink_to("another.pub")
    assert ask(signing_key=str(path))["signing_key"]["public"] is None


# PostgreSQL ---------------------------------------------------------------------------------------------------------


def test_servers_by_their_major_versions(tmp_path: pathlib.Path) -> None:
    assert host_info.server_versions(tmp_path) == []
    for version in ("9", "17", "x"):
        program = tmp_path / "usr/lib/postgresql" / version / "bin" / "postgres"
        program.parent.mkdir(parents=True)
        program.touch()
    assert host_info.server_versions(tmp_path) == ["9", "17"]
    # A server without a cluster is not in use.
    for version in ("15", "9"):
        settings = tmp_path / "etc/postgresql" / version / "main" / "postgresql.conf"
        settings.parent.mkdir(parents=True)
        settings.touch()
    assert host_info.server_versions(tmp_path) == ["9", "15"]
