# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cases share: a cluster with live databases, an S3 server behind a proxy, and good backups made beforehand.

Each case gets a bucket of its own with the good backups in it, and live databases that differ from them, so that a
restore that did nothing is told from one that did its work.  What judges a run uses nothing of the collection's code:
pyrage, gzip, psql, and SQL of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import platform
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t

import psycopg2
import pyrage

from conftest import COLLECTIONS
from tests.support import sampledata
from tests.support.cluster import Cluster, ClusterError
from tests.support.faultyproxy import FaultyProxy
from tests.support.s3server import S3Server

COMMAND = pathlib.Path(__file__).with_name("command.py")
#: No run takes longer, whatever its fault.
SECONDS = 90
#: Stands in the output of a run that had to be ended.
HUNG = "HUNG: it didn't end by itself\n"
#: What signatures of manifests are for.
NAMESPACE = "manifest@infrazero.database"
#: Bytes that gzip can't make smaller, in the database that is uploaded in parts.
NOISE = 6 * 1024 * 1024

Rows = dict[str, tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class Live:
    """A live database and what its good backup holds.

    :param rows: of the live database.
    :param backed_up: of the backup.
    :param oid: of the live database; another one has been put in its place when it changes.
    """

    name: str
    password: str
    identity: str
    recipient: str
    rows: Rows
    backed_up: Rows
    oid: str
    objects: t.Mapping[str, bytes]

    def entry(self, *, private: bool = False) -> dict[str, t.Any]:
        """As it stands in the list of databases."""
        entry = {
            "name": self.name,
            "user": self.name,
            "password": self.password,
            "backup_age_public_key": self.recipient,
        }
        return {**entry, "backup_age_private_key": self.identity} if private else entry

    @property
    def latest(self) -> str:
        """Key of its latest manifest."""
        return f"db/{self.name}/latest-dump.json"

    @property
    def dump(self) -> str:
        """Key of the dump of its good backup."""
        return str(json.loads(self.objects[self.latest])["key"])


@dataclasses.dataclass
class Ended:
    """A process that has ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        """All it said."""
        return self.out + self.err

    @property
    def errors(self) -> list[dict[str, str]]:
        """The errors in its JSON (of the last module, where several ran), as plain data."""
        for text in (self.out, *reversed(self.out.splitlines())):
            with contextlib.suppress(ValueError):
                document = json.loads(text)
                if isinstance(document, dict):
                    found = [document["error"]] if isinstance(document.get("error"), dict) else []
                    databases = document.get("databases", ())
                    return found + [d["error"] for d in databases if isinstance(d, dict) and "error" in d]
        return []


class Nursery:
    """Starts processes of the command: forked from one that has loaded the libraries, which takes most of a run."""

    def __init__(self, environment: t.Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(COMMAND), "serve", str(theirs.fileno())],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._started: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._ended: dict[int, int] = {}
        self._socket.recv(1 << 16)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while data := self._socket.recv(1 << 16):
            told = json.loads(data)
            if "started" in told:
                with self._changed:
                    # Numbers are used again: what is known is of another process.
                    self._ended.pop(told["started"], None)
                self._started.put(told["started"])
                continue
            with self._changed:
                self._ended[told["ended"]] = told["status"]
                self._changed.notify_all()
        self._started.put(None)

    def start(self, arguments: t.Sequence[str], environment: t.Mapping[str, str], out: int, err: int) -> int:
        """Start one; its number comes back."""
        request = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
        with self._starting:
            socket.send_fds(self._socket, [request], [out, err])
            pid = self._started.get()
        if pid is None:
            raise RuntimeError("the process that starts others has ended")
        return pid

    def status(self, pid: int, timeout: float | None) -> int | None:
        """Its exit status, negative for a signal; ``None`` where it hasn't ended within *timeout* seconds."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._ended, timeout)
            return self._ended.get(pid)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class Running:
    """A process of the command under way; *watch* has what is done once a line of its standard error is seen."""

    def __init__(
        self,
        nursery: Nursery,
        arguments: t.Sequence[str],
        environment: t.Mapping[str, str],
        watch: t.Mapping[str, t.Callable[[], object]],
    ) -> None:
        self._began = time.monotonic()
        self._nursery = nursery
        self._child: subprocess.Popen[bytes] | None = None
        self._watch = dict(watch)
        self._err: list[str] = []
        self._out: list[str] = []
        out, theirs_out = os.pipe()
        err, theirs_err = os.pipe()
        try:
            if "LD_PRELOAD" in environment:
                # What is loaded beforehand is loaded by a program that begins.
                self._child = subprocess.Popen(
                    [sys.executable, str(COMMAND), *arguments],
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=theirs_out,
                    stderr=theirs_err,
                )
                self.pid = self._child.pid
            else:
                self.pid = nursery.start(arguments, environment, theirs_out, theirs_err)
        finally:
            os.close(theirs_out)
            os.close(theirs_err)
        self._threads = [
            threading.Thread(target=self._read_err, args=(err,), daemon=True),
            threading.Thread(target=self._read_out, args=(out,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_err(self, descriptor: int) -> None:
        with open(descriptor, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                self._err.append(line)
                for pattern in [p for p in self._watch if re.search(p, line)]:
                    self._watch.pop(pattern)()

    def _read_out(self, descriptor: int) -> None:
        with open(descriptor, encoding="utf-8", errors="replace") as stream:
            self._out.append(stream.read())

    def status(self, timeout: float | None = 0) -> int | None:
        """Its exit status; ``None`` where it hasn't ended within *timeout* seconds."""
        if self._child is None:
            return self._nursery.status(self.pid, timeout)
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: int) -> None:
        """Send it a signal; SIGKILL has ended it when this returns."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.status(10)

    def children(self) -> list[int]:
        """Processes that it has started."""
        found: list[int] = []
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
        return found

    def wait(self) -> Ended:
        """Its end; it is killed where it doesn't come."""
        status = self.status(max(1.0, SECONDS - (time.monotonic() - self._began)))
        if status is None:
            self.send(signal.SIGKILL)
            status = -signal.SIGKILL
            self._err.append(HUNG)
        for thread in self._threads:
            thread.join(10)
        return Ended(status, "".join(self._out), "".join(self._err), time.monotonic() - self._began)


class World:
    """Servers and databases for one case after the other."""

    def __init__(self, directory: pathlib.Path, *, large: bool = True) -> None:
        self.directory = directory
        self.cluster = Cluster(configuration={"max_connections": "25"})
        self.server = S3Server(directory / "s3")
        self._bare: Cluster | None = None
        self._other: Cluster | None = None
        self._large = large
        self._stack = contextlib.ExitStack()
        self._proven: set[tuple[str, str]] = set()
        self.live: dict[str, Live] = {}
        self._count = 0

    def __enter__(self) -> World:
        self.directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "id_ed25519")], check=True
        )
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(COLLECTIONS),
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.directory),
            "AWS_EC2_METADATA_DISABLED": "true",
            "DB_RESTORE_TRUST": "signed",
        }
        self._nursery = Nursery(self._environment)
        self._stack.callback(self._nursery.close)
        self._stack.enter_context(self.cluster)
        self._stack.enter_context(self.server)
        self.proxy = self._stack.enter_context(FaultyProxy(self.server.endpoint))
        self.s3 = self.server.client()
        self._make("small", large=False)
        if self._large:
            self._make("large", large=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def use_bare(self, cluster: Cluster | None) -> None:
        """Let *cluster* be the bare one; ``None``: the usual one again."""
        self._other = cluster

    @property
    def bare(self) -> Cluster:
        """A second cluster, with nothing in it but what initdb makes; made when it is first asked for."""
        if self._other is not None:
            return self._other
        if self._bare is None:
            self._bare = self._stack.enter_context(Cluster())
        return self._bare

    @property
    def secrets(self) -> list[str]:
        """What must not stand in any output."""
        return [self.server.secret_key, *(s for live in self.live.values() for s in (live.identity, live.password))]

    # Live databases -------------------------------------------------------------------------------------------------

    def connect(self, database: str = "postgres", *, cluster: Cluster | None = None) -> t.Any:
        """A superuser's session."""
        where = cluster or self.cluster
        conn = psycopg2.connect(host=where.host, port=where.port, user="postgres", dbname=database, connect_timeout=20)
        conn.autocommit = True
        return conn

    def sql(self, statements: str, database: str = "postgres") -> list[tuple[t.Any, ...]]:
        """Run *statements* as superuser; the rows of the last."""
        with contextlib.closing(self.connect(database)) as conn, conn.cursor() as cursor:
            cursor.execute(statements)
            return list(cursor.fetchall()) if cursor.description else []

    def rows(self, database: str, *, cluster: Cluster | None = None) -> Rows:
        """Fingerprints of all tables."""
        with contextlib.closing(self.connect(database, cluster=cluster)) as conn:
            return sampledata.fingerprint(conn)

    def oid(self, database: str) -> str:
        """Of the database with that name; empty where there is none."""
        found = self.sql(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
        return str(found[0][0]) if found else ""

    def _make(self, name: str, *, large: bool) -> None:
        identity = pyrage.x25519.Identity.generate()
        password = f"canary-password-of-{name}"
        template = f"{name}_template"
        self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        self.sql(f"CREATE DATABASE {template} OWNER {name} TEMPLATE template0")
        with contextlib.closing(self.connect(template)) as conn:
            cursor = conn.cursor()
            cursor.execute(f"SET SESSION AUTHORIZATION {name}")
            sampledata.pretender(conn)
            sampledata.ledger(conn, bookings=60)
        self._renew(name)
        config = self.configure(self.directory / f"etc-{name}", [_bare_entry(name, password, identity)], f"good-{name}")
        self.server.create_bucket(f"good-{name}")
        made = self.start(["cli", "backup", "--config", str(config)]).wait()
        if made.status:
            raise ClusterError(f"the good backup failed: {made.text}")
        backed_up = self.rows(name)
        # What is live is something else from now on.
        self.sql("DELETE FROM public.looks_like_sql WHERE id % 7 = 0; CREATE TABLE public.later (id int)", template)
        self.sql(f"INSERT INTO public.later VALUES (1); ALTER TABLE public.later OWNER TO {name}", template)
        if large:
            self.sql(
                "CREATE TABLE public.noise (id int, x bytea); ALTER TABLE public.noise ALTER x SET STORAGE EXTERNAL;"
                "INSERT INTO public.noise SELECT n, (SELECT string_agg(sha512((n || '/' || i)::text::bytea), '')"
                f" FROM generate_series(1, 2048) i) FROM generate_series(1, {NOISE // (128 * 1024)}) n",
                template,
            )
        self.sql(f"ALTER DATABASE {template} ALLOW_CONNECTIONS false")
        oid = self._renew(name)
        self.live[name] = Live(
            name=name,
            password=password,
            identity=str(identity),
            recipient=str(identity.to_public()),
            rows=self.rows(name),
            backed_up=backed_up,
            oid=oid,
            objects=self.stored(f"good-{name}"),
        )

    def _renew(self, name: str) -> str:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.sql(f"CREATE DATABASE {name} OWNER {name} TEMPLATE {name}_template")
        return self.oid(name)

    def reset(self) -> None:
        """Put everything back as a case expects it."""
        self.proxy.heal()
        if not self.cluster.running:
            self.cluster.start()
        self.tidy()
        self.reset_databases()

    def reset_databases(self) -> None:
        """Put the live databases back."""
        for name, live in self.live.items():
            if self.oid(name) != live.oid or self.rows(name) != live.rows:
                self.live[name] = dataclasses.replace(live, oid=self._renew(name))

    def tidy(self, cluster: Cluster | None = None) -> None:
        """Remove whatever a run has left beside the live databases; of *cluster*, which has none, everything."""
        lives = self.live if cluster is None else {}
        known = "".join(f", '{name}', '{name}_template'" for name in lives)
        roles = "".join(f", '{name}'" for name in lives)
        (cluster or self.cluster).psql(
            f"""
            SET lock_timeout = '20s';
            DROP SCHEMA IF EXISTS infrazero CASCADE;
            SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
            WHERE datname NOT IN ('postgres', 'template0', 'template1'{known}) \\gexec
            SELECT format('DROP OWNED BY %1$I CASCADE; DROP ROLE %1$I', rolname) FROM pg_roles
            WHERE rolname NOT IN ('postgres'{roles}) AND rolname NOT LIKE 'pg\\_%' \\gexec
            """
        )

    def leftovers(self) -> list[str]:
        """Databases and roles that a restore makes for itself and must not leave."""
        found = self.sql(
            "SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'"
            " UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'infrazero\\_restore\\_%'"
        )
        return [row[0] for row in found]

    # The store ------------------------------------------------------------------------------------------------------

    def bucket(self, *lives: Live) -> str:
        """A new bucket with the good backups of *lives*."""
        self._count += 1
        name = f"case-{self._count}"
        self.server.create_bucket(name)
        for live in lives:
            for key, data in live.objects.items():
                self.put(name, key, data)
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object past the proxy."""
        self.s3.put_object(Bucket=bucket, Key=key, Body=data)

    def stored(self, bucket: str, *, root: pathlib.Path | None = None) -> dict[str, bytes]:
        """Everything in *bucket*, whose objects the server keeps as files, or in the directory *root*."""
        root = root or self.server.data / bucket
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def drop_bucket(self, bucket: str) -> None:
        """Remove *bucket* with all that is in it."""
        shutil.rmtree(self.server.data / bucket, ignore_errors=True)

    def unfinished(self, bucket: str) -> int:
        """How many uploads in parts were neither completed nor aborted."""
        try:
            return len(self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))
        except self.s3.exceptions.NoSuchUpload:  # so this server says "none"
            return 0

    def unproven(self, objects: t.Mapping[str, bytes], live: Live, rows: Rows) -> str | None:
        """Why the latest backup in *objects* does not restore to *rows*; ``None``: it does, row for row.

        A text that was restored once is not restored again.
        """
        if live.latest not in objects:
            return "there is no latest manifest"
        manifest = json.loads(objects[live.latest])
        data = objects.get(manifest["key"])
        if data is None:
            return f"latest names {manifest['key']}, which is not there"
        if hashlib.sha256(data).hexdigest() != manifest["sha256"] or len(data) != manifest["size"]:
            return "the object has another size or SHA-256 than its manifest says"
        try:
            text = gzip.decompress(pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(live.identity)]))
        except (OSError, EOFError, pyrage.DecryptError) as error:
            return f"the object can't be opened: {error}"
        # The first line holds a key made for this one backup, as newer pg_dumps have a word of their own.
        plain = re.sub(rb"^\\(un)?restrict \w+$", b"", text.partition(b"\n")[2], flags=re.MULTILINE)
        known = (hashlib.sha256(plain).hexdigest(), repr(rows))
        if known not in self._proven:
            self.sql("DROP DATABASE IF EXISTS proof WITH (FORCE)")
            self.sql("CREATE DATABASE proof TEMPLATE template0")
            try:
                self.cluster.psql(text.decode(), "proof")
                found = self.rows("proof")
            except ClusterError as error:
                return f"psql can't restore it: {error}"
            finally:
                self.sql("DROP DATABASE proof WITH (FORCE)")
            if found != rows:
                return f"its rows differ: {dict(set(found.items()) ^ set(rows.items()))}"
            self._proven.add(known)
        return None

    def signed(self, fields: t.Mapping[str, t.Any]) -> bytes:
        """A manifest with *fields*, signed with the host's key by ssh-keygen alone."""
        rest = {name: value for name, value in fields.items() if name != "signature"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        made = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(self.directory / "id_ed25519")],
            input=text,
            capture_output=True,
            check=True,
        )
        whole = {**rest, "signature": made.stdout.decode()}
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    # The command ----------------------------------------------------------------------------------------------------

    def configure(
        self,
        directory: pathlib.Path,
        entries: t.Sequence[t.Mapping[str, t.Any]],
        bucket: str,
        *,
        cluster: Cluster | None = None,
        **changes: str,
    ) -> pathlib.Path:
        """Write the configuration of a host."""
        where = cluster or self.cluster
        values = {
            "DATABASES_JSON": json.dumps(entries),
            "DB_HOST": where.host,
            "DB_PORT": str(where.port),
            "DB_BACKUP_BUCKET": bucket,
            "S3_ENDPOINT": self.proxy.endpoint,
            "S3_REGION": self.server.region,
            "S3_ACCESS_KEY_ID": self.server.access_key,
            "S3_SECRET_ACCESS_KEY": self.server.secret_key,
            "DB_SIGNING_KEY": str(self.directory / "id_ed25519"),
            **changes,
        }
        directory.mkdir(exist_ok=True)
        public = (self.directory / "id_ed25519.pub").read_text().split()
        (directory / "allowed_signers").write_text(
            f'{platform.node()} namespaces="{NAMESPACE}" {" ".join(public[:2])}\n'
        )
        quoted = {name: value.replace("'", "'\\''") for name, value in values.items()}
        (directory / "db.env").write_text("".join(f"{name}='{value}'\n" for name, value in quoted.items()))
        return directory

    def start(
        self,
        arguments: t.Sequence[str],
        environment: t.Mapping[str, str] | None = None,
        *,
        watch: t.Mapping[str, t.Callable[[], object]] | None = None,
    ) -> Running:
        """Begin a run."""
        return Running(self._nursery, arguments, {**self._environment, **(environment or {})}, watch or {})


def _bare_entry(name: str, password: str, identity: t.Any) -> dict[str, str]:
    return {"name": name, "user": name, "password": password, "backup_age_public_key": str(identity.to_public())}
