# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The staged copy of a restore: the backup is proven, loaded beside the database, and compared with its manifest.

A restore swaps the copy in afterwards.  Without the swap this is a verification of the backup.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..domain import restoring
from ..errors import ChecksumMismatch
from ..printing import printable
from ..reporting import Reporter
from ..sources.base import Loaded, Staging, Task
from ..streams import pipeline
from .choose import Choice, plain
from .plan import RestorePlan


class Backup:
    """The object of a backup, as one restore reads it.

    :ivar proof: what each chunk of the object must be; ``None``: that is not known yet.
    :ivar sha256: of the object, as far as it is known.
    """

    def __init__(self, plan: RestorePlan, reporter: Reporter) -> None:
        self._choice = plan.request.choice
        self._identities = plan.request.identities
        self._name = plan.request.database.name
        self._size = plan.size
        self._reporter = reporter
        self.proof = self._choice.proof
        self.sha256 = self._choice.sha256

    def _advance(self, count: int) -> None:
        self._reporter.advance(self._name, count)

    def _announce_check(self) -> None:
        self._reporter.stage(self._name, "check", f"reading {self._choice.url} once to check it", total=self._size)

    def open(self, stack: contextlib.ExitStack) -> pipeline.Decoded:
        """Its plain bytes, until *stack* is left."""
        return stack.enter_context(plain(self._choice, self._identities, proof=self.proof, advance=self._advance))

    def prove(self, staging: Staging) -> None:
        """Read the object as a whole before anything in it is executed; the second reading is compared with this."""
        self._announce_check()
        with staging.limits.sources() as stack:
            reader = stack.enter_context(contextlib.closing(self._choice.store.open(self._choice.key)))
            first = pipeline.FirstReading(reader, expected_sha256=self._choice.sha256, advance=self._advance)
            staging.limits.closing(stack.enter_context(contextlib.closing(first)))
            self._proven(first.prove())

    def check(self, staging: Staging) -> t.Mapping[str, int]:
        """Read and decode the object to its end, load nothing, and return the rows of each table."""
        opened: list[pipeline.Decoded] = []

        def remembered(stack: contextlib.ExitStack) -> pipeline.Decoded:
            opened.append(self.open(stack))
            return opened[-1]

        self._announce_check()
        rows = staging.check(remembered)
        self._proven(opened[-1].proof)
        return rows

    def _proven(self, proof: pipeline.Proof) -> None:
        self.proof, self.sha256 = proof, proof.sha256


def task_of(plan: RestorePlan, reporter: Reporter) -> Task:
    """What the source needs to know of the restore that *plan* is for."""
    request, said = plan.request, plan.request.choice.manifest

    def most(text_bytes: int) -> int | None:
        return restoring.size_limit(
            request.options.max_size,
            plaintext_size=None if said is None else said.plaintext_size,
            rows=None if said is None else said.rows,
            text_bytes=text_bytes,
        )

    return Task(
        database=request.target,
        options=request.options,
        part=None if said is None else said.part,
        proven=request.choice.proven and said is not None and said.database == request.database.name,
        url=request.choice.url,
        size=plan.size,
        # A copy is like its backup, also where it replaces an earlier one.
        replaces=plan.replaces if request.options.as_name is None else None,
        most=most,
        reporter=reporter,
        copy_of=None if request.options.as_name is None else request.database.name,
    )


def make_room(choice: Choice, backup: Backup, staging: Staging) -> None:
    """Prove the backup to its last byte, then drop the old database."""
    compare(choice, backup.check(staging))
    staging.make_room()


def fill(choice: Choice, backup: Backup, staging: Staging) -> tuple[Loaded, tuple[str, ...]]:
    """Load the backup into the staged copy, compare it, and make it ready; what was loaded and warnings come back."""
    loaded = staging.load(backup.open)
    compare(choice, {**loaded.rows, **loaded.left_out}, loaded.failed_tables)
    compare_digests(choice, loaded.digests)
    return loaded, staging.finish()


def compare(choice: Choice, rows: t.Mapping[str, int], failed: t.AbstractSet[str] = frozenset()) -> None:
    """Compare the source's own counts with those of the manifest.

    :param failed: tables whose rows are known to be missing.
    """
    said = choice.manifest
    if said is None or said.tables is None:
        return
    expected = {table.name: table.rows for table in said.tables if table.name not in failed}
    if expected == dict(rows):
        return
    table = min(key for key in {*expected, *rows} if expected.get(key) != rows.get(key))
    counts = f"{rows.get(table, 'no')} rows loaded, {expected.get(table, 'no')} in the manifest"
    raise ChecksumMismatch(
        f"the rows of {choice.url} are not those that its manifest counts",
        phase="load",
        cause=f"{printable(table)}: {counts}",
        hint="choose another backup; nothing was replaced",
    )


def compare_digests(choice: Choice, digests: t.Mapping[str, str]) -> None:
    """Compare the digests of the rows that were loaded with those of the manifest."""
    said = choice.manifest
    if said is None or said.tables is None or not digests:
        return
    different = [table.name for table in said.tables if digests.get(table.name) != table.digest]
    if different:
        raise ChecksumMismatch(
            f"the rows of {choice.url} are not those that its manifest describes",
            phase="load",
            cause=f"{printable(min(different))}: the digest of its rows differs",
            hint="choose another backup; nothing was replaced",
        )
