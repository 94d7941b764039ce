# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command on the host as it is really run: a process with a db.env, ended by signals, asking on a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import platform
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile, human, trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import lock
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import base, registry
from ansible_collections.infrazero.database.plugins.module_utils._engine.version import VERSION

from conftest import COLLECTIONS, ROOT
from tests.support import scene, signing
from tests.support.cluster import Cluster, wait_until
from tests.support.foreign import COMMANDS, FOREIGN, UNENCODABLE, obeyed
from tests.support.processes import is_running
from tests.support.s3server import S3Server

MODULE = "ansible_collections.infrazero.database.plugins.module_utils._engine.cli"
#: Stands in every secret of these tests, and must stand nowhere else.
CANARY = "canary-of-a-secret"


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server(tls=True) as running:
        running.create_bucket("backups")
        yield running


@dataclasses.dataclass
class Host:
    """A host with its configuration, and the command run on it."""

    config: pathlib.Path
    cluster: Cluster
    store: pathlib.Path
    values: dict[str, str]
    secrets: list[str]

    def configure(self, *entries: Database, **changes: str) -> None:
        listed = [
            {
                "name": entry.name,
                "user": entry.user,
                "password": f"{CANARY} of {entry.name}",
                "backup_age_public_key": entry.recipients[0],
            }
            for entry in entries
        ]
        self.secrets += [entry.identity.reveal() for entry in entries if entry.identity is not None]
        self.values = {
            "DATABASES_JSON": json.dumps(listed),
            "DB_TYPE": "postgresql",
            "DB_HOST": self.cluster.host,
            "DB_PORT": str(self.cluster.port),
            "DB_BACKUP_DIRECTORY": str(self.store),
            **changes,
        }
        self.config.mkdir(exist_ok=True)
        (self.config / "db.env").write_text(envfile.render(self.values))
        key = self.config / "signing" / "id_ed25519"
        if not key.exists():
            line = trust.signers_line(platform.node(), signing.make_key(key))
            (self.config / "allowed_signers").write_text(line + "\n")

    def argv(self, *arguments: str) -> list[str]:
        command, *rest = arguments
        return [sys.executable, "-m", MODULE, command, "--config", str(self.config), *rest]

    def environment(self, extra: t.Mapping[str, str]) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8", **extra}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*arguments),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, pass_fds: t.Sequence[int] = (), **environment: str) -> Ended:
        done = subprocess.run(
            self.argv(*arguments),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=pass_fds,
            check=False,
        )
        return self.checked(Ended(done.returncode, done.stdout, done.stderr))

    def checked(self, ended: Ended) -> Ended:
        for secret in (*self.secrets, CANARY):
            assert secret not in ended.out + ended.err, "a secret in the output"
        assert "Traceback" not in ended.err, ended.err
        return ended

    def on_terminal(
        self,
        *arguments: str,
        typed: str | None = None,
        answer: t.Callable[[], str] | None = None,
        **environment: str,
    ) -> tuple[int, str]:
        """Exit status and everything shown on a terminal of 100 columns.

        :param typed: at the prompt for the private key.
        :param answer: returns what is typed when the command asks for confirmation.
        """
        pid, terminal = pty.fork()
        if not pid:
            argv = self.argv(*arguments)
            os.execve(argv[0], argv, self.environment(environment))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        shown = b""
        while True:
            try:
                chunk = os.read(terminal, 4096)
            except OSError:  # the other end is gone
                break
            shown += chunk
            if typed is not None and b"age private key" in shown:
                os.write(terminal, typed.encode() + b"\n")
                typed = None
            if answer is not None and b"Type yes to continue: " in shown:
                os.write(terminal, answer().encode() + b"\n")
                answer = None
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = shown.decode()
        self.checked(Ended(status, text, ""))
        return status, text

    def keys(self) -> list[str]:
        return sorted(str(path.relative_to(self.store)) for path in self.store.rglob("*") if path.is_file())


@dataclasses.dataclass
class Ended:
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads(self.out))


@pytest.fixture
def host(cluster: Cluster, tmp_path: pathlib.Path) -> Host:
    (tmp_path / "store").mkdir()
    return Host(tmp_path / "etc", cluster, tmp_path / "store", {}, [])


def key_of(entry: Database) -> str:
    assert entry.identity is not None
    return entry.identity.reveal()


def make(cluster: Cluster, entry: Database, *, rows: int = 10) -> None:
    scene.make(cluster, entry, f"CREATE TABLE t AS SELECT i, md5(i::text) AS x FROM generate_series(1, {rows}) i")


def make_big(cluster: Cluster, entry: Database) -> None:
    """What takes a while: 64 MB that gzip can't make smaller, and so several parts of an upload."""
    scene.make(
        cluster,
        entry,
        "CREATE TABLE big (id int, x bytea); ALTER TABLE big ALTER x SET STORAGE EXTERNAL;"
        # Each row is longer than gzip looks back.
        "INSERT INTO big WITH noise AS MATERIALIZED (SELECT string_agg(sha512(random()::text::bytea), '') AS x"
        " FROM generate_series(1, 80000) i GROUP BY i % 80) SELECT i, x FROM noise, generate_series(1, 12) i",
    )


def children(pid: int) -> set[int]:
    """All processes below *pid*."""
    found: set[int] = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid:
                child = int(path.parent.name)
                found |= {child} | children(child)
    return found


# Backups ------------------------------------------------------------------------------------------------------------


def test_from_one_end_to_the_other_over_s3(host: Host, server: S3Server) -> None:
    one, two = scene.entry("one"), scene.entry("two")
    for entry in (one, two):
        make(host.cluster, entry)
    assert server.ca_bundle is not None
    host.configure(
        one,
        two,
        DB_BACKUP_DIRECTORY="",
        DB_BACKUP_BUCKET="backups",
        # The contract: https:// is put in front where no scheme is given.
        S3_ENDPOINT=server.endpoint.removeprefix("https://"),
        S3_REGION=server.region,
        S3_ACCESS_KEY_ID=server.access_key,
        S3_SECRET_ACCESS_KEY=server.secret_key,
        S3_CA_BUNDLE=server.ca_bundle,
    )
    host.secrets.append(server.secret_key)
    made = host.run("backup", "--jobs", "2")
    assert (made.status, made.out.splitlines()[-1]) == (0, "2 databases backed up"), made
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ one dump: dumping to s3://backups/db/one/", made.err, re.M)

    listed = host.run("list", "--json")
    assert listed.status == 0
    backups = listed.document["backups"]
    assert [(b["database"], b["state"], b["latest"]) for b in backups] == [
        ("one", "complete", True),
        ("two", "complete", True),
    ]
    header, row = (re.split(r"  +", line) for line in host.run("list", "--database", "two").out.splitlines())
    assert header == ["CREATED", "AGE", "DATABASE", "SIZE", "STATE", "LATEST", "KEY"]
    assert row[1:] == ["just now", "two", human.size(backups[1]["size"]), "complete", "latest", backups[1]["key"]]

    before = scene.rows(host.cluster, one)
    host.cluster.psql("TRUNCATE t", "one")
    done = host.run("restore", "one", "db/one/", "--json", DB_RESTORE_AGE_PRIVATE_KEY=key_of(one))
    assert done.status == 0, done
    (database,) = done.document["databases"]
    assert (database["status"], database["rows"], database["verified"]) == ("restored", 10, True)
    assert scene.rows(host.cluster, one) == before

    host.configure(one, two, **{**host.values, "S3_CA_BUNDLE": ""})
    refused = host.run("backup")
    assert refused.status == 1 and "certificate" in refused.err.lower()


def test_the_roles_of_the_cluster(host: Host) -> None:
    app, key = scene.entry("app"), scene.entry("cluster")
    make(host.cluster, app)
    host.cluster.psql(
        "CREATE ROLE reporting; CREATE ROLE deploy LOGIN CREATEDB; GRANT reporting TO deploy;"
        f" ALTER ROLE reporting SET app.token = '{CANARY}'"
    )
    host.configure(app)
    assert (host.run("backup").status, host.run("globals", "--show", **key_in_environment(key)).status) == (0, 1)
    assert "DB_CLUSTER_AGE_PUBLIC_KEYS" in host.run("list").err
    assert not any(name.startswith("cluster/") for name in host.keys())  # noqa: SIM118 - not a dictionary

    host.configure(app, DB_CLUSTER_AGE_PUBLIC_KEYS=json.dumps(list(key.recipients)))
    assert "their text has" in host.run("backup", "--dry-run").out
    made = host.run("backup")
    assert made.status == 0
    assert made.out.splitlines()[-1] == "1 database and the cluster globals backed up"
    prefix = f"cluster/{platform.node()}/globals/"
    assert re.search(
        f"^cluster globals: backed up as {prefix}[0-9TZ]+.sql.gz.age: the roles of the cluster, ", made.out, re.M
    )
    assert not [line for line in host.run("backup", "--database", "app").out.splitlines() if "globals" in line]
    listed = host.run("list", "--json").document["backups"]
    assert ("cluster globals", "complete", True) in [(one["database"], one["state"], one["latest"]) for one in listed]
    assert prefix in json.dumps(host.run("policy", "host", "--bucket", "backups").document)

    assert host.run("globals", "--plan").status == 2, "no key, and nobody to ask"
    wrong = host.run("globals", "--plan", "--json", **key_in_environment(app))
    assert (wrong.status, wrong.document["error"]["type"]) == (1, "WrongIdentity")
    secret = key_in_environment(key)
    shown = host.run("globals", "--show", **secret)
    assert shown.status == 0
    assert "reporting: NOLOGIN, password not recorded, sets app.token" in shown.out.splitlines()
    assert "deploy is a member of reporting" in shown.out.splitlines()
    assert {role["name"] for role in host.run("globals", "--show", "--json", **secret).document["roles"]} == {
        "app",
        "deploy",
        "postgres",
        "reporting",
    }

    host.cluster.psql("DROP ROLE reporting, deploy")
    planned = host.run("globals", "--plan", **secret)
    assert planned.status == 0
    assert "create role 'reporting' with NOLOGIN" in planned.out.splitlines()
    assert any(line.startswith("note: role 'deploy' had CREATEDB; not restored: ") for line in planned.out.splitlines())
    assert host.cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'deploy'") == "0"
    done = host.run("globals", "--apply", "--privileges", "--json", **secret)
    assert (done.status, done.document["changed"], sorted(done.document["created"])) == (
        0,
        True,
        ["deploy", "reporting"],
    )
    assert host.cluster.psql("SELECT rolcreatedb FROM pg_roles WHERE rolname = 'deploy'") == "t"
    again = host.run("globals", "--apply", "--privileges", "--json", **secret)
    assert (again.status, again.document["changed"]) == (0, False)

    elsewhere = host.run("globals", "--plan", "--prefix", "cluster/db9/", **secret)
    assert elsewhere.status == 1
    assert "cluster/db9/globals/" in elsewhere.err
    assert host.run("globals", **secret).status == 2


def key_in_environment(entry: Database) -> dict[str, str]:
    """The private key of *entry* as the command takes it."""
    return {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(entry)}


def test_a_list_shows_foreign_keys_and_obeys_none(host: Host) -> None:
    """Whoever writes to the store chooses keys: no row is forged, and no terminal is written to."""
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    assert host.run("backup").status == 0
    store = registry.open_store(base.DirectorySettings(str(host.store)))
    stamp = "20290101T000000Z.sql.gz.age"
    keys = [f"db/app/{text}/{stamp}" for text in {**FOREIGN, **COMMANDS}.values()]
    for key in keys:
        store.put(key, b"x")
    own = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))["key"]

    shown = host.run("list")
    assert shown.status == 0
    assert not obeyed(shown.out)
    header, *rows = shown.out.splitlines()
    assert len(rows) == len(keys) + 1
    at, mark = header.index("KEY"), header.index("LATEST")
    shown_keys = [row[at:] for row in rows]
    assert len(set(shown_keys)) == len(rows), "two keys look alike"
    assert [row[at:] for row in rows if row[mark:at].strip() == "latest"] == [own]
    assert {row[header.index("STATE") : mark].strip() for row in rows if row[at:] != own} == {"orphan"}

    listed = host.run("list", "--json")
    assert not obeyed(listed.out) and listed.out.isascii()
    assert {backup["key"] for backup in listed.document["backups"]} == {own, *keys}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


#: Statements that a restore leaves out or changes, and names in a warning or in the result.
LEFT_OUT = (
    "CREATE EVENT TRIGGER {name} ON ddl_command_end EXECUTE FUNCTION f();",
    "CREATE SUBSCRIPTION {name} CONNECTION '' PUBLICATION p;",
    "COMMENT ON EXTENSION {name} IS 'x';",
    "DROP EXTENSION {name};",
    "ALTER DATABASE {name} SET work_mem = 1;",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {name} GRANT SELECT ON TABLES TO public;",
    "ALTER TABLE public.{name} SET WITH OIDS;",
)
#: What no server loads, but restores with a warning.
SENT = ("SET {name} = 1;", "GRANT SELECT ON public.t TO {name};", "ALTER TABLE public.t OWNER TO {name};")
#: Dumps that fail, each with a name in the error.
FAILING = (
    "CREATE TABLE public.t (a {name});",
    "CREATE EXTENSION {name};",
    "COPY public.{name} FROM stdin;\n\\.\n",
    "COPY public.{name} WITH OIDS FROM stdin;\n\\.\n",
    "CREATE POLICY p ON public.t TO {name};",
    "hello{raw};",
)
#: One of each kind, short enough for a name.
EVERYTHING = "\x1b[31m\x9b\x7f\r\t\u2028\u202e\u2066\u200b\ufe0f\u3164\U000e0041\nx"


def restored_text(host: Host, text: str | bytes, *arguments: str) -> tuple[Ended, Ended]:
    """What a restore of a foreign text shows, as text and as JSON; nothing of it may be obeyed."""
    target = host.store / "db" / "app" / "foreign.sql"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())
    told = [
        host.run("restore", "app", "db/app/foreign.sql", "--trust", "unsigned", *arguments, *form)
        for form in ([], ["--json"])
    ]
    for one in told:
        assert not obeyed(one.out + one.err), one
    assert told[1].out.isascii()
    # A half of a pair is valid in JSON text, but no other program takes it.
    json.dumps(told[1].document, ensure_ascii=False).encode("utf-8")
    return told[0], told[1]


def test_what_a_dump_leaves_out_is_shown_and_not_obeyed(host: Host) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    names = [quoted(text) for text in FOREIGN.values()]
    statements = [one.format(name=name) for one in LEFT_OUT for name in names]
    statements += [one.format(name=quoted(EVERYTHING)) for one in SENT]
    # Bytes that are no characters in any encoding of the server.
    broken = [one.format(name='"x@y"').encode().replace(b"@", b"\xff\x9b") for one in LEFT_OUT]
    text = "CREATE TABLE public.t (a int);\n" + "\n".join(statements)
    shown, document = restored_text(host, text.encode() + b"\n" + b"\n".join(broken), "--no-skip-acl")
    assert (shown.status, document.status) == (0, 0)
    (database,) = document.document["databases"]
    assert database["status"] == "restored"
    for escape in ("\\x1b[2J", "\\x9b2J", "\\u202e", "\\x85", "\\u2028", "\\udcff\\udc9b"):
        assert any(escape in line for line in database["skipped"]), escape
        assert escape in shown.err, escape


@pytest.mark.parametrize("statement", FAILING)
def test_what_a_dump_fails_with_is_shown_and_not_obeyed(host: Host, statement: str) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    names = {"name": quoted(EVERYTHING), "raw": EVERYTHING[EVERYTHING.index("\x9b") :]}
    shown, document = restored_text(host, "CREATE TABLE public.t2 (a int);\n" + statement.format(**names))
    assert (shown.status, document.status) == (1, 1)
    error = document.document["databases"][0]["error"]
    assert "\\x9b" in error["message"] + error["cause"]
    assert "\\x9b" in shown.err
    # A byte that is no character in any encoding of the server.
    broken = statement.format(name='"x@y"', raw="@").encode().replace(b"@", b"\xff")
    shown, document = restored_text(host, broken)
    assert (shown.status, document.status) == (1, 1)


@pytest.mark.parametrize("field", ["host", "database", "tool_version"])
def test_what_a_manifest_says_is_shown_and_not_obeyed(host: Host, field: str) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    assert host.run("backup").status == 0
    latest = host.store / "db" / "app" / "latest-dump.json"
    for text in (EVERYTHING, *UNENCODABLE.values()):
        latest.write_text(json.dumps({**json.loads(latest.read_text()), field: text}))
        for arguments in (["list"], ["restore", "app", "db/app/", "--dry-run"], ["backup"]):
            for trust_of in ([], ["--trust", "unsigned"])[: 2 if arguments[0] == "restore" else 1]:
                told = [host.run(*arguments, *trust_of, *form) for form in ([], ["--json"])]
                for one in told:
                    assert not obeyed(one.out + one.err), one
                assert told[1].out.isascii()
                json.dumps(told[1].document, ensure_ascii=False).encode("utf-8")


def test_a_name_that_the_encoding_of_the_output_lacks_ends_nothing(host: Host) -> None:
    app = scene.entry("größe", "app")
    make(host.cluster, app)
    host.configure(app)
    for command in ("backup", "list"):
        told = host.run(command, PYTHONIOENCODING="ascii:strict")
        assert told.status == 0 and "gr\\xf6\\xdfe" in told.out, told


def test_exit_statuses_of_a_backup(host: Host) -> None:
    here, gone = scene.entry("here"), scene.entry("gone")
    make(host.cluster, here)
    host.configure(here, gone)
    both = host.run("backup", "--json")
    assert both.status == 1
    assert [d["status"] for d in both.document["databases"]] == ["backed_up", "failed"]
    assert both.document["databases"][1]["error"]["type"] == "ConnectionFailed"
    assert host.run("backup", "--database", "gone").status == 1

    with lock.locked_session(host.cluster.settings, "here", doing="restore"):
        held = host.run("backup", "--database", "here")
        assert held.status == 3 and "infrazero.database restore here" in held.err
        assert host.run("backup").status == 1, "one of several"
        assert host.run("restore", "here", "db/here/", DB_RESTORE_AGE_PRIVATE_KEY=key_of(here)).status == 3

    unknown = host.run("backup", "--database", "nobody", "--json")
    assert unknown.status == 2 and unknown.document["error"]["phase"] == "configuration"
    for arguments in (["--jobs", "0"], ["--jobs", "x"], ["--no-such-option"]):
        assert host.run("backup", *arguments).status == 2


def test_a_dry_run_of_a_backup(host: Host) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    dry = host.run("backup", "--dry-run", "--json")
    assert dry.status == 0
    assert dry.document["databases"][0]["status"] == "planned"
    assert host.keys() == []


def test_a_relative_configuration_directory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    # A path in db.env is relative to that file, whatever the working directory is.
    host.configure(app, DB_BACKUP_DIRECTORY="../store")
    absolute = host.config
    for directory in (absolute.parent, absolute):
        monkeypatch.chdir(directory)
        host.config = pathlib.Path(os.path.relpath(absolute, directory))
        ended = host.run("backup", "--json")
        assert ended.status == 0, ended
        (made,) = ended.document["databases"]
        assert made["signed"] and not made["warnings"], made
    # Neither is a backup unsigned because the key that signs it is misspelt.
    host.configure(app, DB_SIGNING_KEY="signing/id_ed2551")
    ended = host.run("backup")
    assert ended.status == 2 and f"{absolute}/signing/id_ed2551 does not exist" in ended.err, ended


def test_faults_of_the_configuration_are_exit_status_2(host: Host) -> None:
    app = scene.entry("app")
    missing = host.run("backup")
    assert missing.status == 2 and "cannot read" in missing.err and "db.env" in missing.err
    host.configure(app)
    (host.config / "db.env").write_bytes(b"\xff\xfe")
    assert host.run("backup").status == 2
    for changes in (
        {"DATABASES_JSON": ""},
        {"DATABASES_JSON": "{"},
        {"DB_PORT": "five"},
        {"DB_BACKUP_JOBS": "0"},
        {"DB_BACKUP_COMPRESSION": "rar"},
        {"DB_BACKUP_DIRECTORY": ""},
    ):
        host.configure(app, **changes)
        ended = host.run("backup")
        assert ended.status == 2 and ended.err.startswith("error: configuration: "), (changes, ended)
    (host.config / "db.env").write_text(f"DATABASES_JSON='{CANARY}")
    assert host.run("backup").status == 2


def test_validate_needs_neither_server_nor_store_and_reports_everything(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = scene.entry("app")
    nowhere = {"DB_HOST": "/nonexistent", "DB_BACKUP_DIRECTORY": "/nonexistent"}
    host.configure(app, **nowhere)
    good = host.run("validate")
    assert (good.status, good.out, good.err) == (0, f"{host.config}: valid, 1 database\n", "")
    host.configure(app, app, **nowhere, DB_PORT="five", DB_BACKUP_JOB="2")
    bad = host.run("validate")
    assert bad.status == 2 and bad.out == f"{host.config}: 2 errors\n"
    assert "error: settings, DB_PORT: is not a whole number" in bad.err
    assert "error: entry 2 (app), name: 'app' is already the name of entry 1" in bad.err
    assert "warning: " in bad.err and "did you mean DB_BACKUP_JOBS?" in bad.err
    found = host.run("validate", "--json")
    assert found.status == 2 and not found.document["valid"]
    assert {(each["entry"], each["field"]) for each in found.document["errors"]} == {
        ("settings", "DB_PORT"),
        ("entry 2 (app)", "name"),
    }
    assert all(each["reason"] and each["remedy"] for each in found.document["errors"])
    # A list alone, from a file and from a pipe.
    monkeypatch.chdir(host.config.parent)
    listed = [{"name": app.name, "user": app.user, "password": CANARY, "backup_age_public_key": app.recipients[0]}]
    private = [{**listed[0], "backup_age_private_key": key_of(app)}]
    pathlib.Path("list.json").write_text(json.dumps(private), encoding="utf-8")
    assert host.run("validate", "list.json").out == "list.json: valid, 1 database\n"
    refused = host.run("validate", "list.json", "--public")
    assert refused.status == 2 and "backup_age_private_key: must not be present here" in refused.err
    pathlib.Path("list.json").write_text(json.dumps([{**listed[0], "user": "pg_x\x1b[2J"}]), encoding="utf-8")
    odd = host.run("validate", "list.json")
    assert odd.status == 2 and "\x1b" not in odd.err and "is reserved by PostgreSQL" in odd.err
    assert host.run("validate", "none.json").status == 2
    assert host.run("validate", "--public").status == 2
    # Where there is no configuration at all, a list and the schema can be had as well.
    host.config = host.config / "none"
    assert host.run("validate").status == 2
    schema = (ROOT / "docs" / "formats" / "databases.schema.json").read_text(encoding="utf-8")
    assert host.run("validate", "--schema").document == json.loads(schema)


@pytest.mark.skipif(os.geteuid() != 0, reason="steps down to another user")
def test_a_configuration_that_this_user_may_not_read(host: Host) -> None:
    host.configure(scene.entry("app"))
    (host.config / "db.env").chmod(0o600)
    host.config.chmod(0o755)
    argv = ["setpriv", "--reuid=nobody", "--clear-groups", *host.argv("backup")]
    # The tests' own directory may be closed to others, which is as good.
    done = subprocess.run(argv, env=host.environment({}), capture_output=True, text=True, cwd="/", check=False)
    if "No module named" in done.stderr:
        pytest.skip("this checkout can't be read by others")
    assert done.returncode == 2 and "Permission denied" in done.stderr, done


@pytest.mark.parametrize(
    "command", [(), ("backup",), ("restore",), ("undo",), ("drop-replaced",), ("list",), ("globals",)]
)
def test_help(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *command, "--help"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: infrazero-database" in done.stdout
    if command:
        assert "exit status:" in done.stdout and "--config" in done.stdout


def test_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--version"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"infrazero-database {VERSION}\n")


def test_invalid_usage_shows_the_usage_of_the_subcommand_and_the_nearest_flag(host: Host) -> None:
    host.configure(scene.entry("app"))
    done = host.run("backup", "--job", "2")
    assert done.status == 2
    assert done.err.startswith("usage: infrazero-database backup ")
    assert "--job is not an argument; did you mean --jobs?" in done.err


def test_a_misspelt_setting_is_reported_and_a_misspelt_switch_refused(host: Host) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app, DB_BACKUP_JOB="2")
    done = host.run("backup")
    assert done.status == 0
    assert "db.env: DB_BACKUP_JOB is not a setting; did you mean DB_BACKUP_JOBS?" in done.err
    refused = host.run("restore", "app", "db/app/", DB_RESTORE_ROLEMAP="a:b", DB_RESTORE_AGE_PRIVATE_KEY=key_of(app))
    assert refused.status == 2 and "did you mean DB_RESTORE_ROLE_MAP?" in refused.err


def test_results_are_sentences(host: Host) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    made = host.run("backup").out.splitlines()
    assert re.match(
        r"app: backed up as db/app/\S+\.age: 1 table, 10 rows, [\d.]+ KiB \([\d.]+ KiB of text\) in [\d.]+ s,"
        r" number 1, signed$",
        made[0],
    )
    assert made[1:] == ["1 database backed up"]
    done = host.run("restore", "app", "db/app/", DB_RESTORE_AGE_PRIVATE_KEY=key_of(app)).out.splitlines()
    assert re.match(
        r"app: restored from \S+\.age, created just now, signed by \S+: 1 table, 10 rows in [\d.]+ s, verified;"
        r" the replaced database is kept as app__replaced_\w+$",
        done[0],
    )
    assert done[1:] == ["1 database restored"]


# Restores -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def backed_up(host: Host) -> Database:
    app = scene.entry("app")
    make(host.cluster, app)
    host.configure(app)
    assert host.run("backup").status == 0
    return app


def test_a_dry_run_of_a_restore(host: Host, backed_up: Database) -> None:
    dry = host.run("restore", "app", "db/app/", "--dry-run", "--json")
    assert dry.status == 0, dry
    (plan,) = dry.document["databases"]
    assert (plan["status"], plan["encrypted"], plan["rows"]) == ("planned", True, 10)
    assert plan["replaces"]["owner"] == "app"
    other = scene.entry("other")
    wrong = host.run("restore", "app", "db/app/", "--dry-run", DB_RESTORE_AGE_PRIVATE_KEY=key_of(other))
    assert wrong.status == 1 and "decrypt" in wrong.err
    assert host.cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'") == "1"


def test_a_copy_beside_the_database(host: Host, backed_up: Database) -> None:
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    host.cluster.psql("CREATE TABLE later (id int)", "app")
    dry = host.run("restore", "app", "db/app/", "--as", "app_check", "--dry-run")
    assert dry.status == 0 and "app: plan of the restore beside it, as app_check\n" in dry.out
    assert "replaces:  nothing" in dry.out
    made = host.run("restore", "app", "db/app/", "--as", "app_check", "--drop-after", "24", **key)
    assert made.status == 0 and "app: restored as app_check from" in made.out, made
    assert "later" not in host.cluster.psql("SELECT relname FROM pg_class WHERE relkind = 'r'", "app_check")
    assert host.cluster.psql("SELECT count(*) FROM later", "app") == "0"
    kept = "SELECT drop_after - created_at = interval '1 day' FROM infrazero.copy"
    assert host.cluster.psql(kept) == "t"
    again = host.run("restore", "app", "db/app/", "--dry-run", "--json", DB_RESTORE_AS="app_check")
    assert again.document["databases"][0]["as"] == "app_check"
    dry = host.run("restore", "app", "db/app/", "--as=app_check", "--dry-run")
    assert "replaces:  an earlier copy of app with" in dry.out
    for arguments in (["--as", "app"], ["--as", "postgres"], ["--as", "a/b"], ["--drop-after", "1"]):
        refused = host.run("restore", "app", "db/app/", *arguments, **key)
        assert refused.status == 2 and "hint:" in refused.err, refused
    host.cluster.psql("CREATE DATABASE other")
    other = host.run("restore", "app", "db/app/", "--as", "other", **key)
    assert other.status == 1 and "choose another name" in other.err
    databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate"
    assert host.cluster.psql(databases) == "app app_check other postgres"


def test_some_tables_beside_the_database(host: Host, backed_up: Database) -> None:
    host.cluster.psql('CREATE TABLE "Other" AS SELECT 1 AS a; CREATE TABLE third AS SELECT 1 AS a', "app")
    assert host.run("backup").status == 0
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    alone = host.run("restore", "app", "db/app/", "--table", "public.t", **key)
    assert alone.status == 2 and "--as" in alone.err
    two = ["--as", "app_copy", "--table", "public.t", "--table", 'public."Other"']
    dry = host.run("restore", "app", "db/app/", *two, "--dry-run", **key)
    assert dry.status == 0 and 'tables:    only public.t, public."Other"\n' in dry.out
    done = host.run("restore", "app", "db/app/", *two, "--json", **key)
    (database,) = done.document["databases"]
    assert done.status == 0 and database["only_tables"] == ["public.t", 'public."Other"'] and database["rows"] == 11
    assert host.cluster.psql("SELECT count(*) FROM third", "app_copy") == "0"
    wrong = host.run("restore", "app", "db/app/", "--as", "app_copy", "--table", "public.other", **key)
    assert wrong.status == 1 and 'did you mean public."Other"?' in wrong.err
    assert host.cluster.psql("SELECT count(*) FROM t", "app_copy") == "10", "the earlier copy is still there"


def test_a_restore_is_undone_and_what_is_left_dropped(host: Host, backed_up: Database) -> None:
    nothing = host.run("undo", "app")
    assert nothing.status == 1 and "no previous database of 'app' is kept" in nothing.err
    host.cluster.psql("CREATE TABLE later (id int)", "app")
    later = "SELECT to_regclass('public.later') IS NOT NULL"
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    assert host.run("restore", "app", "db/app/", **key).status == 0
    dry = host.run("undo", "app", "--dry-run")
    assert dry.status == 0 and "plan of the undo" in dry.out
    assert "replaced just now), not restored from a backup" in dry.out
    assert "put aside:  the present database with" in dry.out and "kept for 24 h" in dry.out
    assert host.cluster.psql(later, "app") == "f"
    # On a terminal it asks, and anything but yes changes nothing.
    status, shown = host.on_terminal("undo", "app", answer=lambda: "no")
    assert status != 0 and "Undo the last restore of app?" in shown and host.cluster.psql(later, "app") == "f"
    status, shown = host.on_terminal("undo", "app", answer=lambda: "yes")
    assert status == 0 and "app: swapped back in: app__replaced_" in shown
    assert host.cluster.psql(later, "app") == "t"
    again = host.run("undo", "app", "--json", "--keep-replaced", "2")
    (facts,) = again.document["databases"]
    assert again.status == 0 and (facts["status"], facts["keep_replaced"]) == ("undone", 2)
    assert facts["kept_as"] and facts["previous"]["restored_from"].endswith(".age")
    with contextlib.closing(connect(host.cluster.settings, database="app")):
        busy = host.run("undo", "app", "--refuse-connected")
    assert busy.status == 1 and "is in use" in busy.err

    dry = host.run("drop-replaced", "app", "--dry-run")
    assert dry.status == 0 and f"{facts['kept_as']} (" in dry.out and "would be dropped" in dry.out
    few = host.run("drop-replaced", "app", "--all-but-newest")
    assert few.status == 0 and "no replaced database to drop" in few.out
    status, shown = host.on_terminal("drop-replaced", "app", answer=lambda: "no")
    assert status != 0 and "Drop them?" in shown
    done = host.run("drop-replaced", "app", "--json")
    assert [one["name"] for one in done.document["databases"][0]["dropped"]] == [facts["kept_as"]]
    assert host.cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'") == "1"
    assert host.run("undo").status == host.run("drop-replaced", "app", "--keep-replaced", "1").status == 2


def test_a_dump_to_a_file(host: Host, backed_up: Database, tmp_path: pathlib.Path) -> None:
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    host.configure(backed_up, DB_HOST="/nowhere")  # no server is asked
    path = tmp_path / "app.sql"
    done = host.run("restore", "app", "db/app/", "--to-file", str(path), **key)
    assert done.status == 0, done
    assert re.match(
        rf"app: written to {path} from \S+\.age, created just now, signed by \S+: 1 table, 10 rows, [\d.]+ KiB in"
        r" [\d.]+ s, verified; SHA-256 [0-9a-f]{64}\n1 database written\n$",
        done.out,
    )
    host.cluster.psql("CREATE DATABASE laptop")
    host.cluster.psql(path.read_text(), "laptop")
    assert host.cluster.psql("SELECT count(*) FROM t", "laptop") == "10"
    again = host.run("restore", "app", "db/app/", "--to-file", str(path), **key)
    assert again.status == 2 and f"{path} exists" in again.err
    for arguments in (
        ["--to-file", "app.sql"],
        ["--to-file", "-"],
        ["--to-file", "/nowhere/app.sql"],
        ["--to-file", str(tmp_path / "other"), "--as", "copy"],
        ["--to-file", str(tmp_path / "other"), "--dry-run"],
    ):
        assert host.run("restore", "app", "db/app/", *arguments, **key).status == 2, arguments
    assert not (tmp_path / "other").exists()


def test_a_signal_while_a_file_is_written(host: Host, tmp_path: pathlib.Path) -> None:
    app = scene.entry("app")
    make_big(host.cluster, app)
    host.configure(app)
    assert host.run("backup").status == 0
    folder = tmp_path / "files"
    folder.mkdir()
    running = host.start(
        "restore", "app", "db/app/", "--to-file", str(folder / "app.sql"), DB_RESTORE_AGE_PRIVATE_KEY=key_of(app)
    )
    wait_until(lambda: any(one.stat().st_size for one in folder.iterdir()))
    running.send_signal(signal.SIGTERM)
    _out, err = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM, err
    assert list(folder.iterdir()) == []


def test_a_restore_that_goes_on_after_errors_has_an_exit_status_of_its_own(host: Host) -> None:
    """The backup is signed, so it is read once, and once more for rows that wait for others."""
    app = scene.entry("app")
    make(host.cluster, app)
    host.cluster.psql(
        "CREATE TABLE lost AS SELECT 1 AS a; CREATE FUNCTION gone(a int) RETURNS boolean LANGUAGE plpgsql STABLE"
        " AS 'BEGIN RETURN a IN (TABLE public.lost); END'; CREATE TABLE broken (a int CHECK (gone(a)));"
        "INSERT INTO broken VALUES (1); DROP TABLE lost",
        "app",
    )
    host.configure(app)
    assert host.run("backup").status == 0
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(app)}
    stopped = host.run("restore", "app", "db/app/", **key)
    assert stopped.status == 1 and "COPY public.broken failed" in stopped.err and "--on-error" in stopped.err
    done = host.run("restore", "app", "db/app/", "--on-error", "continue", **key)
    assert done.status == 4, done
    assert "warning: app: not restored: COPY public.broken failed" in done.err
    assert done.out.startswith("app: restored with errors from ") and "1 table, 10 rows" in done.out
    document = host.run("restore", "app", "db/app/", "--json", DB_RESTORE_ON_ERROR="continue", **key)
    (database,) = document.document["databases"]
    assert document.status == 4 and database["status"] == "restored_with_errors"
    assert len(database["failed_statements"]) == 1 and database["incomplete_tables"] == ["public.broken"]


def test_without_a_key_or_with_a_wrong_one_nothing_is_touched(host: Host, backed_up: Database) -> None:
    oid = "SELECT oid FROM pg_database WHERE datname = 'app'"
    before = host.cluster.psql(oid)
    missing = host.run("restore", "app", "db/app/", DB_RESTORE_NON_INTERACTIVE="true")
    assert missing.status == 2 and "no age private key was given" in missing.err
    assert host.run("restore", "app", "db/app/").status == 2, "there is no terminal to ask on"
    other = scene.entry("other")
    host.secrets.append(key_of(other))
    wrong = host.run("restore", "app", "db/app/", "--json", DB_RESTORE_AGE_PRIVATE_KEY=key_of(other))
    assert wrong.status == 1 and wrong.document["databases"][0]["error"]["type"] == "WrongIdentity"
    cause = wrong.document["databases"][0]["error"]["cause"]
    assert (
        f"encrypted to {backed_up.recipients[0]} (database app); the given key belongs to {other.recipients[0]}"
        in cause
    )
    garbage = host.run("restore", "app", "db/app/", DB_RESTORE_AGE_PRIVATE_KEY=CANARY)
    assert garbage.status == 2, garbage
    assert host.cluster.psql(oid) == before


def test_bad_arguments_of_a_restore(host: Host, backed_up: Database) -> None:
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    for arguments in (
        ["app"],
        [],
        ["nobody", "db/app/"],
        ["app", "/absolute"],
        ["app", "https://example.com/x"],
        ["app", "db/app/", "--keep-replaced=nan"],
        ["app", "db/app/", "--keep-replaced=-1"],
        ["app", "db/app/", "--identity-fd", "63"],
        ["app", "db/app/", "--strategy", "hope"],
        ["app", "db/app/", "--trust", "everybody"],
    ):
        assert host.run("restore", *arguments, **key).status == 2, arguments
    for switch in (
        {"DB_RESTORE_ROLE_MAP": "a:a"},
        {"DB_RESTORE_ROLE_MAP": "a"},
        {"DB_RESTORE_SKIP_ACL": "perhaps"},
        {"DB_RESTORE_EXPECTED_SHA256": "abc"},
        {"DB_RESTORE_TRUST": "perhaps"},
    ):
        ended = host.run("restore", "app", "db/app/", **key, **switch)
        assert ended.status == 2 and next(iter(switch)) in ended.err
    absent = host.run("restore", "app", "db/app/20200101T000000Z.sql.gz.age", **key)
    assert absent.status == 1


def test_whom_a_restore_trusts(host: Host, backed_up: Database) -> None:
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    trusted = (host.config / "allowed_signers").read_text()
    (host.config / "revoked_keys").write_text(trusted.split('"')[2])
    revoked = host.run("restore", "app", "db/app/", "--json", **key)
    assert revoked.status == 1 and revoked.document["error"]["type"] == "RevokedSigner"
    (host.config / "revoked_keys").unlink()
    (host.config / "allowed_signers").unlink()
    (host.config / "signing" / "id_ed25519.pub").unlink()
    nobody = host.run("restore", "app", "db/app/", **key)
    assert nobody.status == 1 and "infrazero_allowed_signers" in nobody.err
    # The command line comes before the environment.
    assert host.run("restore", "app", "db/app/", "--dry-run", **key, DB_RESTORE_TRUST="signed").status == 1
    for said in (["--trust", "unsigned"], []):
        dry = host.run("restore", "app", "db/app/", "--dry-run", *said, **key, DB_RESTORE_TRUST="unsigned")
        assert dry.status == 0 and "restored without verification" in dry.err


def test_another_hosts_backup_is_restored_where_it_is_named(host: Host, backed_up: Database) -> None:
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}
    # The host that signed it is another one now, with a key of its own.
    config = host.config
    host.config = config.with_name("other")
    host.configure(backed_up, DB_SIGNING_NAME="db2")
    with (host.config / "allowed_signers").open("a") as lines:
        lines.write((config / "allowed_signers").read_text())
    foreign = host.run("restore", "app", "db/app/", "--json", **key)
    assert foreign.status == 1 and foreign.document["error"]["type"] == "ForeignSigner"
    assert f"--signer {platform.node()}" in foreign.document["error"]["hint"]
    once = host.run("restore", "app", "db/app/", "--dry-run", "--signer", "db3", "--signer", platform.node(), **key)
    assert once.status == 0 and f"signed by: {platform.node()}" in once.out
    switch = host.run("restore", "app", "db/app/", "--dry-run", **key, DB_RESTORE_SIGNER=f"db3,{platform.node()}")
    assert switch.status == 0
    host.configure(backed_up, DB_SIGNING_NAME="db2", DB_RESTORE_SIGNERS=json.dumps({"db/app/": [platform.node()]}))
    named = host.run("restore", "app", "db/app/", "--json", **key)
    assert named.document["databases"][0]["signed_by"]["name"] == platform.node()
    for wrong in ("{", '{"app": ["*"]}'):
        host.configure(backed_up, DB_SIGNING_NAME="db2", DB_RESTORE_SIGNERS=wrong)
        assert host.run("restore", "app", "db/app/", **key).status == 2
    # Its own backups are signed under its own name.
    host.configure(backed_up, DB_SIGNING_NAME="db2")
    assert host.run("backup").status == 0
    manifest = json.loads((host.store / "db" / "app" / "latest-dump.json").read_text())
    assert manifest["host"] == "db2"


def test_a_backup_says_whether_it_is_signed(host: Host, backed_up: Database) -> None:
    signed = host.run("backup", "--json").document["databases"][0]
    assert signed["signed"] is True and not any("signed" in warning for warning in signed["warnings"])
    (host.config / "signing" / "id_ed25519").chmod(0o644)
    unusable = host.run("backup")
    assert unusable.status == 2 and "can't be used" in unusable.err
    (host.config / "signing" / "id_ed25519").unlink()
    refused = host.run("backup")
    assert refused.status == 1 and "must not be backed up without a signature" in refused.err
    assert "allow_unsigned (--allow-unsigned, DB_BACKUP_ALLOW_UNSIGNED)" in refused.err
    unsigned = host.run("backup", "--allow-unsigned", "--json").document["databases"][0]
    assert unsigned["signed"] is False and any("not signed" in warning for warning in unsigned["warnings"])
    # From then on, none is signed.
    assert host.run("backup").status == 0


def test_the_key_through_a_file_descriptor(host: Host, backed_up: Database) -> None:
    reading, writing = os.pipe()
    os.write(writing, f"# a comment\n{key_of(backed_up)}\n".encode())
    os.close(writing)
    try:
        done = host.run("restore", "app", "db/app/", "--identity-fd", str(reading), pass_fds=[reading])
    finally:
        os.close(reading)
    assert done.status == 0, done


def test_the_key_is_asked_for_on_a_terminal_and_not_shown(host: Host, backed_up: Database) -> None:
    status, shown = host.on_terminal("restore", "app", "db/app/", "--yes", typed=key_of(backed_up))
    assert status == 0, shown
    assert "age private key (not shown): " in shown and "Type yes" not in shown
    status, shown = host.on_terminal("restore", "app", "db/app/", typed="")
    assert status == 2 and "no age private key was typed" in shown
    status, shown = host.on_terminal("restore", "app", "db/app/", DB_RESTORE_NON_INTERACTIVE="true")
    assert status == 2 and "not shown" not in shown


def test_on_a_terminal_the_plan_is_shown_and_confirmed(host: Host, backed_up: Database) -> None:
    oid = "SELECT oid FROM pg_database WHERE datname = 'app'"
    before = host.cluster.psql(oid)
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}

    status, shown = host.on_terminal("restore", "app", "db/app/", answer=lambda: "y", **key)
    assert status == 2 and "not confirmed, nothing was changed" in shown and "pass --yes" in shown
    assert host.cluster.psql(oid) == before
    assert re.search(r"backup:    \S+/db/app/\S+\.age, created \S+Z, just now\r\n", shown)
    assert re.search(rf"signed by: {platform.node()}, key SHA256:\S+\r\n", shown)
    assert re.search(r"contents:  1 table, 10 rows, of PostgreSQL \d\S+, [\d.]+ KiB, read once\r\n", shown)
    assert re.search(r"replaces:  a database of app with [\d.]+ MiB and 0 sessions, which is kept for 24 h\r\n", shown)
    assert re.search(
        r"space:     about [\d.]+ [GM]iB needed \(the size [^)]+ of WAL\), [\d.]+ [GT]iB available\r\n", shown
    )
    assert shown.index("space: ") < shown.index("Replace app? Type yes to continue: ")

    unsigned = ["--trust", "unsigned"]
    (host.config / "allowed_signers").rename(host.config / "elsewhere")
    (host.config / "signing" / "id_ed25519.pub").unlink()
    status, shown = host.on_terminal("restore", "app", "db/app/", *unsigned, answer=lambda: "", **key)
    assert status == 2
    assert re.search(r"warning:   \S[^\r]+\r\n(  warning:[^\r]+\r\n)*\r\nReplace app\?", shown), shown
    (host.config / "elsewhere").rename(host.config / "allowed_signers")

    status, shown = host.on_terminal("restore", "app", "db/app/", answer=lambda: "yes", **key)
    assert status == 0 and "app: restored from " in shown
    assert host.cluster.psql(oid) != before
    # A question where nobody can read it, or nobody answers, would stop the scripts that people have.
    assert host.on_terminal("restore", "app", "db/app/", "--json", **key)[0] == 0
    quiet = host.on_terminal("restore", "app", "db/app/", DB_RESTORE_NON_INTERACTIVE="true", **key)
    assert quiet[0] == 0 and "Type yes" not in quiet[1]
    host.cluster.psql("DROP DATABASE app")
    status, shown = host.on_terminal("restore", "app", "db/app/", answer=lambda: "yes", **key)
    assert status == 0 and "replaces:  nothing" in shown and "Restore app? " in shown


def test_what_is_restored_is_what_was_confirmed(host: Host, backed_up: Database) -> None:
    """A newer backup that is made while the question is open is not restored, and another database not replaced."""
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(backed_up)}

    def back_up_again() -> str:
        host.cluster.psql("DELETE FROM t WHERE i > 3", "app")
        assert host.run("backup").status == 0
        return "yes"

    status, shown = host.on_terminal("restore", "app", "db/app/", answer=back_up_again, **key)
    assert status == 0, shown
    assert host.cluster.psql("SELECT count(*) FROM t", "app") == "10"

    def put_another_in_its_place() -> str:
        host.cluster.psql("ALTER DATABASE app RENAME TO before")
        host.cluster.psql("CREATE DATABASE app OWNER app")
        host.cluster.psql("CREATE TABLE precious (id int)", "app")
        return "yes"

    status, shown = host.on_terminal("restore", "app", "db/app/", answer=put_another_in_its_place, **key)
    assert status == 1 and "the database that is replaced is another one" in shown
    assert host.cluster.psql("SELECT count(*) FROM precious", "app") == "0"


def test_roles_of_the_list_are_never_dropped(host: Host) -> None:
    app, other = scene.entry("app"), scene.entry("other")
    make(host.cluster, app)
    host.cluster.psql("CREATE ROLE other LOGIN; CREATE ROLE stranger")
    host.cluster.psql("GRANT SELECT ON t TO other, stranger", "app")
    host.configure(app, other)
    assert host.run("backup", "--database", "app").status == 0
    done = host.run(
        *("restore", "app", "db/app/", "--keep-replaced", "0", "--json"),
        DB_RESTORE_AGE_PRIVATE_KEY=key_of(app),
        DB_RESTORE_ROLE_MAP="other:app,stranger:app",
    )
    assert done.status == 0, done
    roles = "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'"
    assert host.cluster.psql(roles) == "app,other,postgres"


def test_public_may_connect_again_where_that_is_asked_for(host: Host) -> None:
    app = scene.entry("app")
    make(host.cluster, app)
    host.cluster.psql("GRANT CONNECT ON DATABASE app TO PUBLIC")
    host.configure(app)
    assert host.run("backup").status == 0
    public = "SELECT has_database_privilege('public', 'app', 'CONNECT')"
    for arguments, switch, expected in ((["--public-connect"], "", "t"), ([], "true", "t"), ([], "", "f")):
        environment = {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(app), "DB_RESTORE_PUBLIC_CONNECT": switch}
        done = host.run("restore", "app", "db/app/", *arguments, **environment)
        assert done.status == 0, done
        assert host.cluster.psql(public) == expected
        assert ("CONNECT of PUBLIC on 'app' was left out" in done.err) == (expected == "f")


# Progress -----------------------------------------------------------------------------------------------------------


def test_a_bar_on_a_terminal_and_lines_in_a_log(host: Host) -> None:
    app = scene.entry("app")
    make_big(host.cluster, app)
    host.configure(app)
    status, shown = host.on_terminal("backup")
    assert status == 0, shown
    assert re.search(r"app dump: +\d+%\|.*\d\.?\d*M/\d+.*B/s", shown), shown
    assert "app dump: 100%|" in shown
    # The second knows how much text there was, and so comes to 100 % by itself; one of several has a bar of the run.
    one = scene.entry("one")
    make(host.cluster, one)
    host.configure(app, one)
    status, shown = host.on_terminal("backup")
    assert status == 0, shown
    percents = [int(each) for each in re.findall(r"app dump: +(\d+)%\|", shown)]
    assert max(percents[:-1]) > 90, percents
    assert re.search(r"databases: +50%\|.* 1/2 ", shown), shown
    log = host.run("restore", "app", "db/app/", DB_RESTORE_AGE_PRIVATE_KEY=key_of(app)).err
    stages = re.findall(r"^\S+Z app (\w+): ", log, re.M)
    assert stages == ["load", "analyze", "own", "swap", "done"]
    assert "%" not in log and "\r" not in log


# Signals ------------------------------------------------------------------------------------------------------------


def dumps(cluster: Cluster) -> str:
    return cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_dumps_wait_for_locks(host: Host, jobs: int, number: signal.Signals) -> None:
    entries = [scene.entry("one"), scene.entry("two"), scene.entry("three")]
    for entry in entries:
        make(host.cluster, entry)
    host.configure(*entries)
    with contextlib.ExitStack() as held:
        for entry in entries:
            conn = held.enter_context(
                contextlib.closing(connect(host.cluster.settings, database=entry.name, autocommit=False))
            )
            conn.cursor().execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        process = host.start("backup", "--jobs", str(jobs))
        wait_until(lambda: dumps(host.cluster) == str(jobs))
        below = children(process.pid)
        assert len(below) == jobs
        process.send_signal(number)
        out, err = process.communicate(timeout=30)  # the locks would be waited for a minute
        ended = host.checked(Ended(process.returncode, out, err))
    assert ended.status == 128 + number, ended
    assert f"ended by {number.name}" in ended.err
    assert not [pid for pid in below if is_running(pid)]
    wait_until(lambda: dumps(host.cluster) == "0")
    assert host.keys() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle_of_an_upload(host: Host, server: S3Server, number: signal.Signals) -> None:
    app = scene.entry("app")
    make_big(host.cluster, app)
    bucket = f"signals-{host.cluster.major}-{number}"
    server.create_bucket(bucket)
    assert server.ca_bundle is not None
    host.configure(
        app,
        DB_BACKUP_DIRECTORY="",
        DB_BACKUP_BUCKET=bucket,
        S3_ENDPOINT=server.endpoint,
        S3_ACCESS_KEY_ID=server.access_key,
        S3_SECRET_ACCESS_KEY=server.secret_key,
        S3_CA_BUNDLE=server.ca_bundle,
    )
    client = server.client()

    def sizes() -> list[int]:
        """Sizes of the parts of every upload that is under way, and a 0 for the upload itself."""
        try:
            under_way = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
            found = [
                client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]) for upload in under_way
            ]
        except client.exceptions.NoSuchUpload:  # so this server says "none"
            return []
        return [0] * len(found) + [part["Size"] for parts in found for part in parts.get("Parts", ())]

    process = host.start("backup")
    wait_until(lambda: max(sizes(), default=0) > 1 << 20, seconds=60)
    below = children(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number), (out, err)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    if number == signal.SIGTERM:
        assert sizes() == []
    wait_until(lambda: not [pid for pid in below if is_running(pid)])
    # The next run is none the worse for it.
    assert host.run("backup").status == 0


def test_a_signal_in_the_middle_of_a_restore(host: Host) -> None:
    app = scene.entry("app")
    make_big(host.cluster, app)
    host.configure(app)
    assert host.run("backup").status == 0
    state = "SELECT string_agg(datname || oid, ',' ORDER BY oid) || (SELECT count(*) FROM pg_roles) FROM pg_database"
    before = host.cluster.psql(state)
    process = host.start("restore", "app", "db/app/", DB_RESTORE_AGE_PRIVATE_KEY=key_of(app))
    copying = "SELECT count(*) FROM pg_stat_progress_copy"
    wait_until(lambda: host.cluster.psql(copying) != "0", seconds=60)
    process.terminate()
    out, err = process.communicate(timeout=60)
    ended = host.checked(Ended(process.returncode, out, err))
    assert ended.status == 143, ended
    assert host.cluster.psql(state) == before, "no stage, no throwaway role, the same database"
    assert host.cluster.psql("SELECT count(*) FROM infrazero.restore") == "0"


# Secrets ------------------------------------------------------------------------------------------------------------


def test_no_secret_in_arguments_or_environment_of_any_process(host: Host) -> None:
    app = scene.entry("app")
    make_big(host.cluster, app)
    host.configure(app)
    seen: dict[str, set[str]] = {"cmdline": set(), "environ": set()}
    for arguments, environment in (
        (("backup",), {"AWS_SECRET_ACCESS_KEY": CANARY, "PGPASSWORD": CANARY}),
        (("restore", "app", "db/app/"), {"DB_RESTORE_AGE_PRIVATE_KEY": key_of(app)}),
    ):
        process = host.start(*arguments, **environment)
        stop = threading.Event()

        def sample(pid: int = process.pid, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                for child in children(pid):
                    for kind in seen:
                        with contextlib.suppress(OSError):
                            seen[kind].add(pathlib.Path(f"/proc/{child}/{kind}").read_bytes().decode(errors="replace"))
                time.sleep(0.02)

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            out, err = process.communicate()
        finally:
            stop.set()
            thread.join()
        assert process.returncode == 0, err
        host.checked(Ended(0, out, err))
    assert [line for line in seen["cmdline"] if "pg_dump" in line], "the sampling has seen nothing"
    for texts in seen.values():
        for text in texts:
            # Between fork and exec a child is still a copy of ours.
            if MODULE in text or f"PYTHONPATH={COLLECTIONS}" in text:
                continue
            assert CANARY not in text and key_of(app) not in text
            assert "DB_RESTORE_" not in text and "AWS_" not in text
