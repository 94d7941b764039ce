# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault in one real run, and everything that is looked at after it.

After each run: its exit status and its errors (phase, cause, remedy, no secret); whether a success really was one; the
good backups from before; the live database; what it left behind; and whether the same run without the fault succeeds.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import pathlib
import random
import re
import signal
import threading
import time
import traceback
import typing as t
import urllib.parse

from tests.faults.world import HUNG
from tests.support import manifests
from tests.support.faultyproxy import Fault, Rule

if t.TYPE_CHECKING:
    from tests.faults.world import Ended, Live, Rows, Running, World

BACKUP, RESTORE, BOOTSTRAP = "backup", "restore", "bootstrap"
FAILS, SUCCEEDS, EITHER = "an error", "success", "an error or success"


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault and what is to come of it.

    :param fault: in words.
    :param arrange: puts the fault in place, or orders it.
    :param expected: :data:`FAILS`, :data:`SUCCEEDS`, or :data:`EITHER` where both are right, as long as what is said is
        true.
    :param says: a regular expression that the text of an error, or of a warning, has to match.
    :param live: which database it is about; ``large`` is uploaded in parts.
    :param quick: it belongs to the subset that ``make test`` runs.
    """

    id: str
    stage: str
    fault: str
    arrange: t.Callable[[Trial], None]
    expected: str = FAILS
    says: str = ""
    live: str = "small"
    quick: bool = False


@dataclasses.dataclass
class Result:
    """What became of a case.

    :param faults: why it isn't as it must be; none: it is.
    """

    case: Case
    outcome: str = ""
    status: int | None = None
    error: str = ""
    seconds: float = 0.0
    injected: bool = False
    silent_success: bool = False
    lost_backup: bool = False
    damaged_database: bool = False
    faults: list[str] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, t.Any]:
        """As it stands in faults.json."""
        return {
            "id": self.case.id,
            "stage": self.case.stage,
            "fault": self.case.fault,
            "expected": self.case.expected,
            "outcome": self.outcome,
            "exit_status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 2),
            "passed": not self.faults,
            "problems": self.faults,
            "injected": self.injected,
            "silent_success": self.silent_success,
            "lost_backup": self.lost_backup,
            "damaged_database": self.damaged_database,
        }

    @classmethod
    def of(cls, case: Case, said: t.Mapping[str, t.Any]) -> Result:
        """What faults.json says of *case*."""
        return cls(
            case,
            outcome=said["outcome"],
            status=said["exit_status"],
            error=said["error"],
            seconds=said["seconds"],
            injected=said["injected"],
            silent_success=said["silent_success"],
            lost_backup=said["lost_backup"],
            damaged_database=said["damaged_database"],
            faults=list(said["problems"]),
        )


class Trial:
    """A case being tried; what :attr:`Case.arrange` works with.

    :ivar environment: of the run that meets the fault, besides the usual.
    :ivar settings: changed in its db.env.
    :ivar arguments: more of them.
    :ivar source: what a restore is told to restore.
    :ivar watch: what is done when a line of its standard error matches.
    :ivar good: objects that must be the same after the run.
    :ivar rows: what the live database must hold after a run that failed, and what a successful backup of it holds.
    :ivar restored: what the live database must hold after a restore that succeeded.
    :ivar either_rows: whether the restore may have put the backup in place although the run was ended.
    :ivar may_leave: whether the run has no way to remove what it made.
    :ivar checks: more of them, done after the first run; each says what is wrong.
    """

    def __init__(self, world: World, case: Case, seed: int) -> None:
        self.world = world
        self.case = case
        self.random = random.Random(f"{seed}/{case.id}")
        self.live: Live = world.live[case.live]
        self.bucket = world.bucket(self.live)
        self.environment: dict[str, str] = {}
        self.settings: dict[str, str] = {}
        self.arguments: list[str] = []
        self.source = f"db/{self.live.name}/"
        self.identity: str | None = self.live.identity
        self.entries: list[dict[str, t.Any]] = [self.live.entry()]
        self.watch: dict[str, t.Callable[[], object]] = {}
        self.good = dict(self.live.objects)
        self.rows: Rows | None = self.live.rows
        self.restored: Rows = self.live.backed_up
        self.same_oid = True
        self.either_rows = False
        self._ending: list[t.Callable[[], object]] = []
        self._root: pathlib.Path | None = None
        self._always: dict[str, str] = {}
        self._waiting: list[t.Callable[[], object]] = []
        self.may_leave = False
        self.rerun = True
        self.checks: list[t.Callable[[Ended], str | None]] = []
        self.running: Running | None = None
        self.first = True
        self.directory = world.directory / "etc"
        self._rules: list[Rule] = []
        self._at_rest: list[str] = []
        self._happened = 0
        self._healing: list[t.Callable[[], object]] = []
        self._failures: list[str] = []
        self._before: dict[str, bytes] = {}

    # For those who arrange ------------------------------------------------------------------------------------------

    def inject(self, operation: str, fault: Fault, *, skip: int = 0, times: int | None = None, key: str = ".*") -> None:
        """Order a fault of the proxy; see there."""
        self._rules.append(self.world.proxy.inject(operation, fault, skip=skip, times=times, key=key))

    def happened(self) -> None:
        """The fault has met the run."""
        self._happened += 1

    def does(self, action: t.Callable[[], object]) -> t.Callable[[], None]:
        """*action* as a fault: it has met the run when it was done; its own failure is the harness's."""

        def do() -> None:
            if not self.first:
                return
            try:
                action()
                self.happened()
            except Exception:  # noqa: BLE001 - it runs in a thread of somebody else
                self._failures.append(traceback.format_exc(limit=4))

        return do

    def heals(self, action: t.Callable[[], object]) -> None:
        """*action* ends the fault, before the run is repeated."""
        self._healing.append(action)

    def replaces(self, key: str, data: bytes) -> None:
        """Put *data* in the place of the object *key* while the run is under way, as somebody else would."""
        self.world.put(self.bucket, key, data)
        self._before[key] = data

    def at_rest(self, key: str, data: bytes | None) -> None:
        """Damage the object *key* in the store: *data* stands in its place, or nothing."""
        original = self.good.pop(key)
        if data is None:
            self.world.s3.delete_object(Bucket=self.bucket, Key=key)
        else:
            self.world.put(self.bucket, key, data)
        self._at_rest.append(key)

        def put_back() -> None:
            # What a run has put in its place since is another case's matter.
            if self.objects().get(key) == data:
                self.world.put(self.bucket, key, original)
                self.good[key] = original

        self.heals(put_back)

    def signal(self, number: int) -> None:
        """Send the run a signal."""
        if self.running is None:
            raise RuntimeError("there is no run to be signalled")
        # Before: whoever waits for the run may be faster than we are.
        self.happened()
        self.running.send(number)

    def ends(self, action: t.Callable[[], object]) -> None:
        """*action* is done when the case is over."""
        self._ending.append(action)

    def use_directory(self, path: pathlib.Path) -> None:
        """Let the directory *path* be the store of this case, with the good backups in it."""
        for key, data in self.good.items():
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            (path / key).write_bytes(data)
        self._root = path
        self._always = {"DB_BACKUP_BUCKET": "", "DB_BACKUP_DIRECTORY": str(path)}

    def soon(self, action: t.Callable[[], object]) -> None:
        """Do *action*, which waits for its moment, beside the run."""
        self._waiting.append(action)

    def objects(self) -> dict[str, bytes]:
        """What lies in the store."""
        return self.world.stored(self.bucket, root=self._root)

    def manifest(self, **changes: t.Any) -> bytes:
        """The latest manifest with fields changed (``...``: left out), signed as it is then."""
        return self.world.signed(manifests.changed(json.loads(self.live.objects[self.live.latest]), **changes))

    # The run --------------------------------------------------------------------------------------------------------

    @property
    def injected(self) -> bool:
        """Whether the fault has met the run."""
        read = {request.key for request in self.world.proxy.seen("GetObject|HeadObject")}
        return bool(
            self._happened or any(rule.fired for rule in self._rules) or any(key in read for key in self._at_rest)
        )

    def run(self) -> Ended:
        """Run the command; a bootstrap is two modules, as its role runs them."""
        world, live = self.world, self.live
        settings = {**self._always, **(self.settings if self.first else {})}
        environment = dict(self.environment) if self.first else {}
        arguments = self.arguments if self.first else []
        if self.case.stage == BOOTSTRAP:
            return self._bootstrap(environment)
        entries = self.entries if self.first else [live.entry()]
        config = world.configure(self.directory, entries, self.bucket, **settings)
        watch = self.watch if self.first else {}
        words = ["cli", self.case.stage, "--config", str(config), "--json", *arguments]
        if self.case.stage == RESTORE:
            words[2:2] = [live.name, self.source if self.first else f"db/{live.name}/"]
            identity = self.identity if self.first else live.identity
            environment.setdefault("DB_RESTORE_NON_INTERACTIVE", "true")
            if identity is not None:
                environment.setdefault("DB_RESTORE_AGE_PRIVATE_KEY", identity)
        self.running = world.start(words, environment, watch=watch)
        return self.running.wait()

    def _bootstrap(self, environment: t.Mapping[str, str]) -> Ended:
        world = self.world
        common = {
            "databases": [self.live.entry(private=True)] if not self.first else self.entries,
            "login_host": world.bare.host,
            "login_port": world.bare.port,
        }
        trusted = (self.world.configure(self.directory, self.entries, self.bucket) / "allowed_signers").read_text()
        store = {
            "bucket": self.bucket,
            "endpoint": world.proxy.endpoint,
            "region": world.server.region,
            "access_key_id": world.server.access_key,
            "secret_access_key": world.server.secret_key,
            "trust": "signed",
            "allowed_signers": trusted,
            **(self.settings if self.first else {}),
        }
        made = self._module("pg_db_bootstrap", {**common, "restore": True}, environment)
        if made.status:
            return made
        done = self._module("s3_manifest_restore", {**common, **store, "outstanding_only": True}, environment)
        return dataclasses.replace(
            done, out=made.out + done.out, err=made.err + done.err, seconds=made.seconds + done.seconds
        )

    def _module(self, name: str, arguments: t.Mapping[str, t.Any], environment: t.Mapping[str, str]) -> Ended:
        path = self.world.directory / f"{name}.json"
        path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        self.running = self.world.start([name, str(path)], environment)
        return self.running.wait()

    # The judgement --------------------------------------------------------------------------------------------------

    def play(self) -> Result:
        """Arrange, run, judge, run again without the fault, judge again."""
        result = Result(self.case)
        started = time.monotonic()
        try:
            if self.case.stage == BOOTSTRAP:
                self.world.tidy(self.world.bare)
                self.entries = [self.live.entry(private=True)]
            self.case.arrange(self)
            self._before = self.objects()
            for waiting in self._waiting:
                in_background(waiting)
            ended = self.run()
            self._judge(result, ended)
            self._judge_store(result, ended)
            result.injected = self.injected
            self.first = False
            self._heal()
            self._judge_database(result, ended)
            if self.rerun:
                self._converges(result)
        except Exception:  # noqa: BLE001 - the harness's own trouble is a failed case, and others go on
            result.faults.append(f"the harness: {traceback.format_exc(limit=6)}")
        finally:
            self.first = False
            self._heal()
            if self.running is not None and self.running.status() is None:
                self.running.send(signal.SIGKILL)
            while self._ending:
                self._ending.pop()()
            self.world.drop_bucket(self.bucket)
        result.faults += self._failures
        if not result.injected:
            result.faults.append("the fault has never met the run")
        result.seconds = time.monotonic() - started
        return result

    def _heal(self) -> None:
        self.world.proxy.heal()
        while self._healing:
            self._healing.pop()()
        if not self.world.cluster.running:
            self.world.cluster.start()

    def _judge(self, result: Result, ended: Ended) -> None:
        result.status, result.outcome = ended.status, "success" if ended.status == 0 else "error"
        result.error = "; ".join(_sentence(error) for error in ended.errors) or ended.err.strip()[-400:]
        if ended.status == 0:
            result.error = ""
        if self.case.expected not in (EITHER, SUCCEEDS if ended.status == 0 else FAILS):
            result.faults.append(f"{self.case.expected} was expected; it said: {ended.text[-1500:]}")
        told = bool(ended.status) or self.case.expected == SUCCEEDS
        if self.case.says and told and not re.search(self.case.says, ended.text, re.DOTALL):
            result.faults.append(f"/{self.case.says}/ doesn't stand in: {ended.text[-1500:]}")
        result.faults += _badly_said(ended, module=self.case.stage == BOOTSTRAP) + _secrets_in(
            ended, self.world.secrets
        )
        result.faults += [said for check in self.checks if (said := check(ended))]
        if self.world.proxy.seen("DeleteObject"):
            result.faults.append("it has deleted an object")
        if ended.status != -9 and not self.may_leave and self.world.unfinished(self.bucket):
            result.faults.append("an upload in parts was neither completed nor aborted")

    def _judge_store(self, result: Result, ended: Ended) -> None:
        self.world.proxy.settle(3)
        objects = self.objects()
        latest = self.live.latest
        for key, data in self.good.items():
            if objects.get(key) != data and key != latest:
                result.lost_backup = True
                result.faults.append(f"LOST BACKUP: {key} is not what it was")
        moved = objects.get(latest) != self.good.get(latest)
        if latest in self.good and moved:
            why = self.world.unproven(objects, self.live, self.rows or {})
            if why is not None:
                result.lost_backup = True
                result.faults.append(f"LOST BACKUP: latest has moved to something that is no good backup: {why}")
        if self.case.stage != BACKUP and self.first and objects != self._before:
            result.faults.append("a restore has written to the store")
        if self.case.stage == BACKUP and ended.status == 0 and self.rows is not None:
            why = self.world.unproven(objects, self.live, self.rows)
            if why is None and not moved:
                why = "latest has not moved"
            if why is not None:
                result.silent_success = True
                result.faults.append(f"SILENT SUCCESS: {why}")

    def _judge_database(self, result: Result, ended: Ended) -> None:
        name = self.live.name
        if self.case.stage == BOOTSTRAP:
            if ended.status == 0 and self.world.rows(name, cluster=self.world.bare) != self.restored:
                result.silent_success = True
                result.faults.append("SILENT SUCCESS: the bootstrapped database is not its backup")
            elif ended.status:
                self._must_not_be_backed_up(result)
            return
        if ended.status != -9 and not self.may_leave and self.world.leftovers():
            result.faults.append(f"left behind: {self.world.leftovers()}")
        oid = self.world.oid(name)
        if self.case.stage == RESTORE and ended.status == 0:
            if not oid or self.world.rows(name) != self.restored:
                result.silent_success = True
                result.faults.append("SILENT SUCCESS: the database is not the backup")
        elif self.rows is not None and (
            not oid
            or (self.same_oid and oid != self.live.oid)
            or self.world.rows(name) not in ([self.rows, self.restored] if self.either_rows else [self.rows])
        ):
            result.damaged_database = True
            result.faults.append("DAMAGED DATABASE: it is not what it was")

    def _must_not_be_backed_up(self, result: Result) -> None:
        """A database whose restore is outstanding must not hide its backups."""
        world = self.world
        config = world.configure(self.directory, [self.live.entry()], self.bucket, cluster=world.bare)
        before = world.stored(self.bucket)
        ended = world.start(["cli", "backup", "--config", str(config), "--json"]).wait()
        if ended.status == 0 or world.stored(self.bucket) != before:
            result.lost_backup = True
            result.faults.append("LOST BACKUP: a database that waits for its restore was backed up")

    def _converges(self, result: Result) -> None:
        """The same run again, without the fault."""
        if self.case.stage == BACKUP:
            # Keys have whole seconds, and what the first run left under this one's is not overwritten.
            time.sleep(1.1)
        # What healed it may have made the live database anew.
        self.live = self.world.live[self.live.name]
        again, repeated = Result(self.case), self.run()
        if repeated.status:
            result.faults.append(f"a run without the fault fails, too: {repeated.text[-1500:]}")
            return
        self.rows = self.world.rows(self.live.name) if self.case.stage == BACKUP else self.rows
        self._judge_store(again, repeated)
        self._judge_database(again, repeated)
        result.silent_success |= again.silent_success
        result.lost_backup |= again.lost_backup
        result.damaged_database |= again.damaged_database
        result.faults += [f"run again: {fault}" for fault in again.faults]
        if self.world.leftovers():
            result.faults.append(f"run again, and still left behind: {self.world.leftovers()}")


def _sentence(error: t.Mapping[str, str]) -> str:
    parts = [f"{error.get('phase')}: {error.get('message')}"]
    parts += [f"{name}: {error[name]}" for name in ("cause", "hint") if error.get(name)]
    return "; ".join(parts)


def _badly_said(ended: Ended, *, module: bool) -> list[str]:
    """What I6 asks for: phase, cause and remedy."""
    if HUNG in ended.err:
        return ["it didn't end by itself"]
    # Ansible's modules have no words for a signal; the play that runs them has.
    if ended.status in (0, -9) or (module and ended.status < 0):
        return []
    if ended.status > 128 or ended.status < 0:
        return (
            [] if "ended by SIG" in ended.err else [f"it ended with {ended.status} and doesn't say why: {ended.text}"]
        )
    if not ended.errors:
        return [f"no error in its JSON: {ended.text[-1500:]}"]
    found = []
    for error in ended.errors:
        missing = [name for name in ("phase", "message", "hint") if not error.get(name)]
        if missing or error.get("phase") == "internal":
            found.append(f"an error without {missing or 'being foreseen'}: {error}")
    return found


def _secrets_in(ended: Ended, secrets: t.Iterable[str]) -> list[str]:
    found = []
    for secret in secrets:
        forms = {secret, base64.b64encode(secret.encode()).decode().rstrip("="), urllib.parse.quote(secret, safe="")}
        if any(form in ended.text for form in forms):
            found.append("A SECRET stands in the output")
    if "Traceback (most recent call last)" in ended.text:
        found.append(f"a traceback: {ended.text[-3000:]}")
    return found


def meets(
    operation: str, fault: Fault, *, skip: int = 0, times: int | None = None, key: str = ".*"
) -> t.Callable[[Trial], None]:
    """Arranges that requests of *operation* meet *fault*; see the proxy."""
    return lambda trial: trial.inject(operation, fault, skip=skip, times=times, key=key)


def in_background(action: t.Callable[[], object]) -> threading.Thread:
    """*action* in a thread of its own."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread
