# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command on the host: ``backup.sh`` and ``restore.sh`` are this with a subcommand put in front.

Exit statuses: 0 all went well; 1 at least one database failed; 2 wrong usage or configuration, nothing was changed;
3 another backup or restore of the database is running; 128 + n ended by signal n.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gc
import getpass
import os
import pathlib
import platform
import signal
import sys
import threading
import time
import types
import typing as t

from . import access, outcome
from .backup import backup
from .backup.plan import BackupOptions
from .domain import databases, envfile, restoring
from .domain import trust as trusting
from .domain.secret import Secret
from .errors import ConfigurationError, EngineError, IdentityMissing, LockHeld
from .printing import printable, printable_json, printable_name
from .progress import LogReporter, TerminalReporter
from .reporting import Reporter
from .signing import keys
from .sources.postgresql import connection
from .stores import base, catalogue
from .stores.registry import open_store
from .streams import age, compression, process

if t.TYPE_CHECKING:
    from .restore.choose import Choice

OK = 0
FAILED = 1
USAGE = 2
LOCKED = 3

_EPILOG = """\
exit status:
  0  all went well
  1  at least one database failed; the others are done
  2  wrong usage or configuration; nothing was changed
  3  another backup or restore of the database is running
"""


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the command; the exit status comes back."""
    # What was imported stays until the end: the collector need not look at it, here and once more at the exit.
    gc.freeze()
    options = _parser().parse_args(arguments)
    reporter = _reporter(sys.stderr, options)
    received = _end_on_signals()
    try:
        status = _run(options, reporter)
    except SystemExit:
        if not received:
            raise
    finally:
        reporter.close()
    if received:
        # Whatever became of the exception on its way up.
        sys.stderr.write(f"error: ended by {signal.Signals(received[0]).name} before the work was done\n")
        return 128 + received[0]
    return status


def _reporter(stream: t.TextIO, options: argparse.Namespace) -> LogReporter | TerminalReporter:
    if stream.isatty() and not options.json and TerminalReporter.is_available():
        return TerminalReporter(stream)
    return LogReporter(stream)


def _end_on_signals() -> list[int]:
    """Give up in order when a signal asks for it; the list that comes back holds its number then.

    The first one interrupts the main thread, whose contexts abort an upload or remove what a restore has made, and
    ends the children, so that no other thread goes on waiting for them.  Further ones must not disturb that.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    received: list[int] = []

    def end_children() -> t.NoReturn:
        while True:  # also those that a thread is just about to start
            process.end_all()
            time.sleep(0.1)

    def stop(number: int, _frame: types.FrameType | None) -> t.NoReturn:
        received.append(number)
        for each in numbers:
            # Not SIG_IGN: children would inherit it.
            signal.signal(each, lambda *_: None)
        threading.Thread(target=end_children, name="end children", daemon=True).start()
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, stop)
    return received


def _run(options: argparse.Namespace, reporter: Reporter) -> int:
    try:
        return t.cast(int, options.run(options, reporter))
    except EngineError as exc:
        error = exc
    except Exception as exc:  # noqa: BLE001 - its text, or its traceback, may hold anything
        error = outcome.unexpected(exc)
    if options.json:
        _write_json({"error": error.as_dict()})
    else:
        sys.stderr.write(f"error: {error}\n")
    return _status(error)


def _status(error: EngineError) -> int:
    if isinstance(error, LockHeld):
        return LOCKED
    return USAGE if isinstance(error, ConfigurationError) else FAILED


# Arguments ----------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    common.add_argument(
        "--config",
        metavar="DIR",
        type=pathlib.Path,
        default=pathlib.Path("/etc/infrazero"),
        help="directory that holds db.env (default: %(default)s)",
    )
    parser = argparse.ArgumentParser(prog="infrazero-database", description="Back up and restore databases.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: t.Callable[..., int], summary: str, description: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            parents=[common],
            help=summary,
            description=description,
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command(
        "backup",
        _backup,
        "back databases up",
        "Back up every database of DATABASES_JSON, each encrypted to its own age recipients.",
    )
    sub.add_argument("--database", metavar="NAME", action="append", help="only this one; may be given several times")
    sub.add_argument("--jobs", metavar="N", type=int, help="databases at the same time (default: DB_BACKUP_JOBS, or 1)")
    sub.add_argument("--take-over", action="store_true", help="go on under a prefix that is another cluster's")
    sub.add_argument("--dry-run", action="store_true", help="say what would be done, and whether it may be done")

    sub = command(
        "restore",
        _restore,
        "restore one database",
        "Restore one database from a backup; nothing but that database is replaced, and only by a backup that was\n"
        "checked to its last byte.  The switches DB_RESTORE_* of the environment are read.",
    )
    sub.add_argument("database", metavar="DATABASE", help="a database of DATABASES_JSON")
    sub.add_argument(
        "source",
        metavar="SOURCE",
        help="key of a dump or manifest, a prefix that ends with '/', or s3://bucket/key",
    )
    sub.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    sub.add_argument(
        "--strategy",
        choices=(restoring.SWAP, restoring.REPLACE),
        help="swap: fill a second database and rename it into place (default); replace: for hosts without the room",
    )
    sub.add_argument(
        "--keep-replaced",
        metavar="HOURS",
        type=float,
        help="how long the replaced database is kept beside the new one (default: 24; 0: dropped at once)",
    )
    sub.add_argument(
        "--refuse-connected",
        action="store_true",
        help="give up where somebody is connected to the database, instead of ending the sessions",
    )
    sub.add_argument(
        "--public-connect",
        action="store_true",
        help="let every role connect to the restored database where every role could to the one that it replaces",
    )
    sub.add_argument(
        "--timeout",
        metavar="SECONDS",
        help="give up after this time, whatever the restore is waiting for (default: DB_RESTORE_TIMEOUT, or 259200)",
    )
    sub.add_argument(
        "--max-size",
        metavar="SIZE",
        help="largest size of the new database, such as 500G; 0: any size (default: DB_RESTORE_MAX_SIZE, or by what the"
        " manifest says)",
    )
    sub.add_argument(
        "--trust",
        choices=trusting.MODES,
        help="signed: only a backup that a host of allowed_signers has signed; unsigned: any, such as an older tool's",
    )
    sub.add_argument(
        "--signer",
        metavar="NAME",
        action="append",
        help="also accept a backup that this host has signed, this once; may be given several times",
    )
    sub.add_argument(
        "--identity-fd",
        metavar="N",
        type=int,
        help="read the age private key from this open file descriptor",
    )

    sub = command("list", _list, "list backups", "List the backups of databases, newest first.")
    sub.add_argument("--database", metavar="NAME", action="append", help="only this one; may be given several times")

    access.register(
        command,
        lambda options: Host.read(options.config).store(),
        lambda options: [database.prefix for database in Host.read(options.config).databases.entries],
    )
    return parser


# Subcommands --------------------------------------------------------------------------------------------------------


def _backup(options: argparse.Namespace, reporter: Reporter) -> int:
    host = Host.read(options.config)
    wanted = host.selected(options.database)
    jobs = options.jobs if options.jobs is not None else host.number("DB_BACKUP_JOBS", 1)
    settings = BackupOptions(
        compression=host.compression(),
        jobs=jobs,
        take_over=options.take_over,
        signer=host.signer(),
        trust=host.trust(),
    )
    run = backup.plan_all if options.dry_run else backup.back_up_all
    summary = run(
        wanted, settings=host.connection(), store=open_store(host.store()), options=settings, reporter=reporter
    )
    return _finish(options, summary, backup.PLANNED if options.dry_run else backup.BACKED_UP)


def _restore(options: argparse.Namespace, reporter: Reporter) -> int:
    # Not with the others: a backup, which is begun every night on every host, starts sooner without it.
    from .restore import restore
    from .restore.choose import choose, is_encrypted
    from .restore.plan import Request
    from .sources.registry import open_source

    host = Host.read(options.config)
    database = host.databases.named(options.database)
    switches = restoring.read_switches(os.environ, base=host.restore_options(options))
    # What runs as a child of ours must not find the key in its environment.
    os.environ.pop("DB_RESTORE_AGE_PRIVATE_KEY", None)
    limits = restoring.read_limits(options.timeout, options.max_size, base=switches.options)
    identity = _read_identity(options.identity_fd) if options.identity_fd is not None else switches.identity
    store = open_store(host.store())
    choice = choose(
        store,
        options.source,
        database=database,
        trust=switches.options.trust,
        expected_sha256=switches.expected_sha256,
    )
    if identity is None and not options.dry_run and is_encrypted(choice):
        identity = _ask_identity(choice, interactive=not switches.non_interactive)
    request = Request(
        database=database,
        choice=choice,
        options=limits,
        identities=() if identity is None else tuple(age.parse_identities([identity])),
    )
    run, status = (restore.plan, restore.PLANNED) if options.dry_run else (restore.restore, restore.RESTORED)
    warnings = [] if options.dry_run else open_source(host.connection()).remove_leftovers()
    summary = outcome.run_each(
        [database.name], lambda _name: run(request, settings=host.connection(), reporter=reporter), warnings=warnings
    )
    return _finish(options, summary, status)


def _list(options: argparse.Namespace, _reporter: Reporter) -> int:
    host = Host.read(options.config)
    store = open_store(host.store())
    now = datetime.datetime.now(datetime.timezone.utc)
    backups = [
        backup
        for database in host.selected(options.database)
        for backup in catalogue.catalogue(store, database.name, prefix=database.prefix)
    ]
    if options.json:
        _write_json({"backups": [b.as_dict(now) for b in backups]})
        return OK
    for b in backups:
        size = "-" if b.size is None else str(b.size)
        mark = "latest" if b.latest else ""
        cells = (f"{b.created_at:%Y-%m-%dT%H:%M:%SZ}", b.database, size, b.state, b.key, mark)
        sys.stdout.write("\t".join(map(printable_name, cells)) + "\n")
    return OK


def _finish(options: argparse.Namespace, summary: outcome.Summary, status: str) -> int:
    if options.json:
        _write_json({"databases": [o.as_dict() for o in summary.outcomes], "warnings": list(summary.warnings)})
    else:
        for warning in summary.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        for o in summary.outcomes:
            name = printable_name(o.database)
            for warning in o.details.get("warnings", ()):
                sys.stderr.write(f"warning: {name}: {printable(warning)}\n")
            if o.error is not None:
                sys.stderr.write(f"error: {name}: {o.error}\n")
            else:
                facts = " ".join(f"{key}={printable(str(v))}" for key, v in o.details.items() if key != "warnings")
                sys.stdout.write(f"{name}: {o.status} {facts}\n")
        sys.stdout.write(summary.line(status) + "\n")
    if not summary.failed:
        return OK
    if len(summary.outcomes) == 1 and summary.failed[0].error is not None:
        return _status(summary.failed[0].error)
    return FAILED


def _write_json(document: t.Mapping[str, t.Any]) -> None:
    sys.stdout.write(printable_json(document) + "\n")


# The private key ----------------------------------------------------------------------------------------------------


def _read_identity(descriptor: int) -> Secret:
    try:
        with os.fdopen(descriptor, "r", encoding="utf-8") as stream:
            text = stream.read().strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise ConfigurationError(
            f"no age private key can be read from file descriptor {descriptor}",
            hint="open it for the command, with a shell for example: --identity-fd 3 3<key.txt",
        )
    return Secret(text)


def _ask_identity(choice: Choice, *, interactive: bool) -> Secret:
    if not interactive or not sys.stdin.isatty():
        raise IdentityMissing(
            f"{choice.store.url(choice.key)} is encrypted and no age private key was given",
            hint="set DB_RESTORE_AGE_PRIVATE_KEY, or run on a terminal to be asked for it",
        )
    try:
        text = getpass.getpass("age private key (not shown): ").strip()
    except EOFError:
        text = ""
    if not text:
        raise IdentityMissing("no age private key was typed", hint="paste the line that begins with AGE-SECRET-KEY-1")
    return Secret(text)


# The host's settings ------------------------------------------------------------------------------------------------


class Host:
    """What ``db.env`` says, and the keys beside it.

    :param values: its settings by name.
    :param directory: where it lies.
    """

    def __init__(self, values: t.Mapping[str, str], directory: pathlib.Path) -> None:
        self.values = values
        self.directory = directory
        if not values.get("DATABASES_JSON"):
            raise ConfigurationError("db.env has no DATABASES_JSON", hint="run the bootstrap or backup role again")
        self.databases = databases.parse(values["DATABASES_JSON"], rules=age, private=False)

    @classmethod
    def read(cls, directory: pathlib.Path) -> Host:
        """Read ``db.env`` in *directory*."""
        path = directory / "db.env"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            cause = (exc.strerror or "") if isinstance(exc, OSError) else "it is no UTF-8"
            raise ConfigurationError(
                f"{path} can't be read", cause=cause, hint="run the role that writes it, or as postgres"
            ) from None
        return cls(envfile.parse(text, name=str(path)), directory)

    def selected(self, names: t.Sequence[str] | None) -> tuple[databases.Database, ...]:
        """The databases with *names*, or all of them."""
        if names is None:
            return self.databases.entries
        return tuple(self.databases.named(name) for name in dict.fromkeys(names))

    def number(self, name: str, default: int) -> int:
        """The setting *name* as a whole number."""
        text = self.values.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit():
            raise ConfigurationError(f"{name} is no whole number", hint="correct it in db.env")
        return int(text)

    def connection(self) -> connection.ConnectionSettings:
        """How to reach the cluster: by default the socket of the machine's own, as the user who runs this."""
        return connection.ConnectionSettings(
            host=self.values.get("DB_HOST") or "/var/run/postgresql", port=self.number("DB_PORT", 5432)
        )

    def compression(self) -> compression.Compression:
        """How dumps are compressed."""
        return compression.Compression(method=self.values.get("DB_BACKUP_COMPRESSION") or "gzip")

    def signing_name(self) -> str:
        """The name that this host signs under: its name in the inventory, or without one its node name."""
        return self.values.get("DB_SIGNING_NAME") or platform.node()

    def _signing_key(self) -> str:
        return self.values.get("DB_SIGNING_KEY") or str(self.directory / "signing" / "id_ed25519")

    def signer(self) -> keys.Signer | None:
        """The host's own key, where it has one."""
        return keys.Signer.at(self._signing_key(), host=self.signing_name())

    def trust(self, *, mode: str | None = None, once: t.Sequence[str] = ()) -> trusting.Trust:
        """Whose backups are accepted here.

        :param mode: what the command line says.
        :param once: hosts whose backups are accepted in this run.
        """
        hours = self.number("DB_RESTORE_MAX_AGE_HOURS", 48)
        return trusting.Trust(
            mode=mode or trusting.Trust.mode,
            allowed_signers=keys.read_keys(str(self.directory / "allowed_signers")),
            revoked_keys=keys.read_keys(str(self.directory / "revoked_keys")),
            max_age=trusting.max_age(hours, name="DB_RESTORE_MAX_AGE_HOURS"),
            name=self.signing_name(),
            own_key=keys.own_public_key(self._signing_key()),
            signers=trusting.signers(self.values.get("DB_RESTORE_SIGNERS") or {}, name="DB_RESTORE_SIGNERS"),
            once=trusting.signer_names(list(once), name="--signer"),
        )

    def store(self) -> base.S3Settings | base.DirectorySettings:
        """Where backups lie: a bucket, or the directory DB_BACKUP_DIRECTORY."""
        directory = self.values.get("DB_BACKUP_DIRECTORY")
        bucket = self.values.get("DB_BACKUP_BUCKET")
        if directory:
            return base.DirectorySettings(path=directory)
        if not bucket:
            raise ConfigurationError("db.env names no DB_BACKUP_BUCKET", hint="name the bucket")
        secret = self.values.get("S3_SECRET_ACCESS_KEY")
        return base.S3Settings(
            bucket=bucket,
            endpoint=self.values.get("S3_ENDPOINT") or None,
            region=self.values.get("S3_REGION") or None,
            access_key_id=self.values.get("S3_ACCESS_KEY_ID") or None,
            secret_access_key=Secret(secret) if secret else None,
            ca_bundle=self.values.get("S3_CA_BUNDLE") or None,
            addressing_style=self.values.get("S3_ADDRESSING_STYLE") or "auto",
        )

    def restore_options(self, options: argparse.Namespace) -> restoring.RestoreOptions:
        """How restores are made here, before the switches of the environment."""
        allowed = frozenset(filter(None, self.values.get("DB_RESTORE_EXTENSIONS", "").replace(",", " ").split()))
        users = frozenset(database.user for database in self.databases.entries)
        trust = self.trust(mode=options.trust, once=options.signer or ())
        result = restoring.RestoreOptions(extensions=allowed, protected_roles=users, trust=trust)
        changes: dict[str, t.Any] = {}
        if options.strategy:
            changes["strategy"] = options.strategy
        if options.keep_replaced is not None:
            changes["keep_replaced"] = restoring.keep_replaced(options.keep_replaced, name="--keep-replaced")
        if options.refuse_connected:
            changes["on_connections"] = restoring.REFUSE
        if options.public_connect:
            changes["public_connect"] = True
        return dataclasses.replace(result, **changes)


if __name__ == "__main__":
    raise SystemExit(main())
