# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup the next one follows."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import lineage
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.lineage import Known, Latest, Link
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import (
    Manifest,
    Postgresql,
    Rekeyed,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import Signed
from hypothesis import given
from hypothesis import strategies as st

MOMENT = datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc)
EARLIER = MOMENT - datetime.timedelta(days=1)
LATER = MOMENT + datetime.timedelta(days=1)
#: What too high to be real up to.
POISON = 2**53 - 2
DB1 = Signed("db1", "SHA256:x")


def latest(
    standing: str = lineage.BELIEVED,
    *,
    sequence: int | None = 5,
    system: str | None = "1",
    at: datetime.datetime = MOMENT,
    sha256: str = "latest",
) -> Latest:
    said = Manifest(
        "db/app/latest.sql.age",
        "0" * 64,
        at,
        schema_version=2,
        part=Postgresql(system_identifier=system),
        sequence=sequence,
    )
    return Latest(standing, sha256, said, reason="somebody's")


PLAIN = Latest(
    lineage.UNSIGNED, "latest", Manifest("db/app/older-tool.sql.age", "0" * 64, MOMENT), reason="an older tool's"
)
JUNK = Latest(lineage.UNREADABLE, "", reason="junk")


def link(sequence: int, sha256: str = "", *, system: str = "1", at: datetime.datetime = MOMENT) -> Link:
    return Link(sequence, sha256 or f"number {sequence}", f"db/app/{sequence}.sql.age", at, system, DB1)


def known(**changes: t.Any) -> Known:
    return Known(system_identifier="1", **changes)


def decided(
    found: Latest | None, newer: t.Sequence[Link], facts: Known, *, take_over: bool = False
) -> tuple[int, str | None]:
    """Number of the next backup and the hash that it follows; it is not refused."""
    decision = lineage.decide(found, newer, facts, take_over=take_over)
    assert take_over or decision.refusal is None, decision
    previous = decision.previous
    return (1, None) if previous is None else (previous.sequence + 1, previous.sha256)


def refusal(found: Latest | None, newer: t.Sequence[Link], facts: Known) -> str:
    decision = lineage.decide(found, newer, facts)
    assert decision.refusal is not None, decision
    assert decision.previous is None
    # Taking over always ends it, and says what was taken over.
    taken = lineage.decide(found, newer, facts, take_over=True)
    assert taken.warnings[0].startswith(f"taken over: {decision.refusal}")
    assert taken.previous is None or taken.previous.sequence < 2**31
    return decision.refusal


# What is believed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "newer", "facts", "number", "follows"),
    [
        pytest.param(None, [], known(), 1, None, id="an empty prefix"),
        pytest.param(latest(), [], known(), 6, "latest", id="our own history"),
        pytest.param(latest(sequence=None, system=None), [], known(), 1, "latest", id="an older tool's, unchecked"),
        pytest.param(latest(), [], known(made_empty_at=EARLIER), 6, "latest", id="of a database that began empty"),
        pytest.param(
            latest(),
            [],
            known(made_empty_at=MOMENT + datetime.timedelta(milliseconds=900)),
            6,
            "latest",
            id="same second",
        ),
        pytest.param(latest(), [], known(recorded=link(5, "latest")), 6, "latest", id="as the cluster has recorded"),
        pytest.param(latest(), [], known(recorded=link(3)), 6, "latest", id="a cluster that was rolled back"),
        pytest.param(
            latest(system="2"), [], known(restored=link(5, "latest", system="2")), 6, "latest", id="restored from it"
        ),
        pytest.param(
            latest(system="2", at=EARLIER),
            [],
            known(restored=Link(0, "latest", "k"), made_empty_at=MOMENT),
            6,
            "latest",
            id="restored from it, by a host of 0.1",
        ),
        pytest.param(
            latest(sequence=None, system=None), [link(4), link(3)], known(), 5, "number 4", id="an older tool's, later"
        ),
        pytest.param(
            latest(sequence=None, system=None), [link(3)], known(recorded=link(9)), 10, "number 9", id="as recorded"
        ),
        pytest.param(
            latest(sequence=None, system=None),
            [link(4, system="2")],
            known(restored=Link(0, "latest", "k")),
            5,
            "number 4",
            id="an older tool's after ours, and restored from it",
        ),
        pytest.param(latest(), [link(6)], known(), 7, "number 6", id="one was killed before it moved latest"),
        pytest.param(None, [link(1)], known(), 2, "number 1", id="the very first was killed"),
    ],
)
def test_the_next_follows_what_is_believed(
    found: Latest | None, newer: list[Link], facts: Known, number: int, follows: str | None
) -> None:
    assert decided(found, newer, facts) == (number, follows)


@pytest.mark.parametrize(
    ("found", "facts", "reason"),
    [
        pytest.param(latest(), known(made_empty_at=LATER), "created empty", id="dropped and made anew"),
        pytest.param(
            latest(),
            known(made_empty_at=LATER, recorded=link(5, at=EARLIER)),
            "created empty",
            id="recorded before that",
        ),
        pytest.param(latest(system="2"), known(), "another cluster", id="another cluster's"),
        pytest.param(latest(system="2"), known(made_empty_at=EARLIER), "another cluster", id="ours is older and empty"),
        pytest.param(
            latest(system="2"), known(recorded=link(9)), "another cluster", id="and we have made backups, too"
        ),
        pytest.param(
            latest(system="2"),
            known(restored=link(4, "older", system="2")),
            "another cluster",
            id="it went on after that",
        ),
        pytest.param(
            latest(system="2"),
            known(restored=Link(0, "older", "k")),
            "another cluster",
            id="restored from an unproven one",
        ),
        pytest.param(latest(sequence=POISON), known(), "too high to be real", id="a poisoned number"),
        pytest.param(
            latest(sequence=POISON),
            known(restored=link(4, "latest")),
            "too high to be real",
            id="also restored from",
        ),
        pytest.param(
            latest(sequence=None, system=None), known(made_empty_at=LATER), "created empty", id="an older tool's"
        ),
    ],
)
def test_a_history_that_is_not_ours_is_refused(found: Latest, facts: Known, reason: str) -> None:
    assert reason in refusal(found, [], facts)


def test_a_prefix_without_latest_is_still_somebodys() -> None:
    assert "another cluster" in refusal(None, [link(9, system="2")], known())
    assert decided(None, [link(9, system="2")], known(restored=link(9, "number 9", system="2"))) == (10, "number 9")
    assert "created empty" in refusal(None, [link(9)], known(made_empty_at=LATER))


def test_taking_over_goes_on_with_what_is_believed_and_begins_anew_with_the_rest() -> None:
    assert decided(latest(system="2"), [], known(), take_over=True) == (6, "latest")
    assert decided(latest(sequence=POISON), [], known(), take_over=True) == (1, None)
    assert decided(latest(sequence=POISON), [link(POISON)], known(recorded=link(POISON)), take_over=True) == (1, None)
    assert decided(latest(sequence=POISON), [], known(recorded=link(7)), take_over=True) == (8, "number 7")
    assert decided(latest(lineage.FOREIGN, sequence=9), [], known(), take_over=True) == (1, None)
    assert decided(JUNK, [link(4, system="2")], known(), take_over=True) == (5, "number 4")
    (warning,) = lineage.decide(latest(lineage.FOREIGN), [], known(), take_over=True).warnings
    assert "somebody's" in warning and "numbering starts again with 1" in warning


# Roll-backs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "newer", "facts"),
    [
        pytest.param(latest(), [], known(recorded=link(9)), id="the cluster has recorded more"),
        pytest.param(latest(), [link(7), link(9), link(8)], known(), id="the store shows more"),
        pytest.param(latest(), [link(7)], known(recorded=link(9)), id="both do"),
        pytest.param(latest(system="2"), [], known(restored=link(9, system="2")), id="the database is of a later one"),
        pytest.param(
            latest(system="2", sequence=4),
            [],
            known(restored=link(5, system="2"), recorded=link(9)),
            id="to before that",
        ),
        pytest.param(
            latest(at=EARLIER),
            [],
            known(recorded=link(9, at=MOMENT), made_empty_at=MOMENT),
            id="to before the database",
        ),
        pytest.param(None, [], known(recorded=link(9)), id="latest was deleted"),
    ],
)
def test_a_roll_back_is_named_and_not_followed(found: Latest | None, newer: list[Link], facts: Known) -> None:
    assert decided(found, newer, facts) == (10, "number 9")
    (warning,) = lineage.decide(found, newer, facts).warnings
    assert "number 9 of 2026-01-31T00:00:00Z" in warning and "this backup is number 10" in warning
    assert found is None or f"latest is number {found.manifest and found.manifest.sequence}" in warning


@given(
    st.lists(st.integers(1, 2**31 - 1), max_size=5),
    st.none() | st.integers(1, 2**31 - 1),
    st.none() | st.integers(0, 2**31 - 1),
    st.none() | st.integers(1, 2**31 - 1),
)
def test_no_number_is_used_twice(
    stored: list[int], recorded: int | None, restored: int | None, sequence: int | None
) -> None:
    facts = known(
        recorded=None if recorded is None else link(recorded),
        restored=None if restored is None else link(restored),
    )
    number, _follows = decided(latest(sequence=sequence), [link(one) for one in stored], facts)
    assert number == max(0, *stored, recorded or 0, restored or 0, sequence or 0) + 1


def test_a_latest_without_a_number_is_no_roll_back() -> None:
    (warning,) = lineage.decide(latest(sequence=None, system=None), [link(4)], known()).warnings
    assert "older tool" in warning and "rolled back" not in warning and "this backup is number 5" in warning


def test_what_agrees_is_no_warning() -> None:
    assert lineage.decide(latest(), [], known(recorded=link(5, "latest"), restored=link(4))).warnings == ()


# What is not believed -----------------------------------------------------------------------------------------------

UNSIGNED_OURS = latest(lineage.UNSIGNED, sequence=POISON, at=LATER)
UNSIGNED_THEIRS = latest(lineage.UNSIGNED, sequence=POISON, system="2")
FOREIGN = latest(lineage.FOREIGN, sequence=POISON)
FORGED = latest(lineage.FORGED, sequence=POISON)


@pytest.mark.parametrize("found", [UNSIGNED_OURS, PLAIN])
def test_an_unsigned_one_that_may_be_ours_is_passed_over(found: Latest) -> None:
    assert decided(found, [], known()) == (1, None)
    assert decided(found, [], known(recorded=link(9))) == (10, "number 9")
    assert decided(found, [link(4), link(3)], known()) == (5, "number 4")
    (warning,) = lineage.decide(found, [], known(recorded=link(9))).warnings
    assert "is ignored" in warning and found.reason in warning and "number 10" in warning


@pytest.mark.parametrize("found", [UNSIGNED_THEIRS, FORGED, JUNK])
def test_a_strange_one_is_refused_unless_we_know_that_we_were_here(found: Latest) -> None:
    assert "not that of a backup that this host accepts" in refusal(found, [], known())
    unsigned = dataclasses.replace(link(9), signed_by=None)
    assert "not that of a backup" in refusal(found, [], known(recorded=unsigned))
    assert "another cluster" in refusal(found, [link(9, system="2")], known())
    for facts, newer in ((known(recorded=link(9)), []), (known(), [link(9)])):
        assert decided(found, newer, facts) == (10, "number 9")
        (warning,) = lineage.decide(found, newer, facts).warnings
        assert "overwritten" in warning and found.reason in warning and "number 10" in warning


def test_another_hosts_backup_is_not_put_out_of_sight() -> None:
    """It may be the better one, of a host that has taken this one's place."""
    for facts, newer in ((known(), []), (known(recorded=link(9)), []), (known(), [link(9)])):
        assert "not that of a backup that this host accepts" in refusal(FOREIGN, newer, facts)
    assert "another cluster" not in refusal(FOREIGN, [], known(recorded=link(9)))
    theirs = latest(lineage.FOREIGN, sequence=POISON, system="2")
    assert "another cluster (system identifier 2)" in refusal(theirs, [], known(recorded=link(9)))
    taken = lineage.decide(theirs, [], known(recorded=link(9)), take_over=True)
    assert taken.previous is not None and taken.previous.sequence == 9


def test_a_clusters_own_backup_is_followed_though_its_key_is_not_accepted_any_more() -> None:
    facts = known(recorded=link(9, FOREIGN.sha256))
    assert decided(FOREIGN, [], facts) == (10, FOREIGN.sha256)
    (warning,) = lineage.decide(FOREIGN, [], facts).warnings
    assert "this cluster's own" in warning and FOREIGN.reason in warning


def test_a_fresh_empty_database_follows_nothing() -> None:
    for found in (latest(lineage.UNSIGNED), PLAIN, latest(lineage.FORGED)):
        assert "created empty" in refusal(found, [], known(made_empty_at=LATER))
        # Whatever time somebody has given his own, a good one that is there counts.
        later = dataclasses.replace(
            found, manifest=found.manifest and dataclasses.replace(found.manifest, created_at=LATER)
        )
        assert "created empty" in refusal(later, [link(9)], known(made_empty_at=LATER))
        since = known(made_empty_at=EARLIER, recorded=link(9))
        assert decided(found, [], since) == (10, "number 9")


def test_what_the_operator_has_chosen_is_a_beginning_but_its_number_is_not_believed() -> None:
    chosen = Link(0, "latest", "k", system_identifier="2")
    for found in (UNSIGNED_THEIRS, FOREIGN, PLAIN, UNSIGNED_OURS):
        assert decided(found, [], known(restored=chosen)) == (1, "latest")
        assert decided(found, [], known(restored=chosen, recorded=link(3))) == (4, "number 3")
        (warning,) = lineage.decide(found, [], known(restored=chosen)).warnings
        assert "restored from" in warning


def test_names_in_warnings_are_printable() -> None:
    evil = dataclasses.replace(link(9), key="db/app/\x1b[2J\n.sql")
    (warning,) = lineage.decide(latest(), [evil], known()).warnings
    assert warning.isprintable()


# Rekeyed backups ------------------------------------------------------------------------------------------------------


def rekeyed(found: Latest, *before: str) -> Latest:
    """*found* as the manifest of a backup that was rekeyed once for each of *before*, the last one first."""
    inner: t.Any = None
    for sha256 in reversed(before):
        inner = Rekeyed(MOMENT, sha256, {"rekeyed": None if inner is None else dataclasses.asdict(inner)})
    assert found.manifest is not None
    return dataclasses.replace(found, manifest=dataclasses.replace(found.manifest, rekeyed=inner))


def test_a_cluster_goes_on_after_its_latest_backup_was_rekeyed() -> None:
    found = rekeyed(latest(sha256="rekeyed"), "latest")
    assert decided(found, [], known(recorded=link(5, "latest"))) == (6, "rekeyed")


def test_a_cluster_goes_on_after_what_it_was_restored_from_was_rekeyed() -> None:
    """The backup is another cluster's, so only that this one was restored from it makes it acceptable."""
    restored = known(restored=link(5, "latest", system="2"))
    for before in (["latest"], ["again", "latest"]):
        found = rekeyed(latest(system="2", sha256="rekeyed"), *before)
        assert decided(found, [], restored) == (6, "rekeyed")
    assert "another cluster" in refusal(rekeyed(latest(system="2", sha256="rekeyed"), "something else"), [], restored)


def test_what_an_unproven_manifest_says_that_it_was_counts_nothing() -> None:
    found = rekeyed(latest(lineage.FORGED, system="2", sha256="rekeyed"), "latest")
    assert "not that of a backup that this host accepts" in refusal(
        found, [], known(restored=link(5, "latest", system="2"))
    )
