# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import listfields, suggestions

VARIABLES = ("infrazero_s3_bucket", "infrazero_s3_prefix", "infrazero_hosts", "infrazero_from", "infrazero_jobs")
SETTINGS = ("DB_HOST", "DB_PORT", "S3_BUCKET", "S3_ENDPOINT_URL", "DB_BACKUP_COMPRESSION")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("backup_age_publickey", listfields.FIELDS, "backup_age_public_key"),
        ("pasword", listfields.FIELDS, "password"),
        ("backupPrefix", listfields.FIELDS, "backup_prefix"),
        ("infrazero_s3_buckets", VARIABLES, "infrazero_s3_bucket"),
        ("infrazero_host", VARIABLES, "infrazero_hosts"),
        ("db_host", SETTINGS, "DB_HOST"),
        ("DB-BACKUP-COMPRESION", SETTINGS, "DB_BACKUP_COMPRESSION"),
    ],
)
def test_finds_what_was_meant(name, known, expected):
    assert suggestions.nearest(name, known) == expected


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("comment", listfields.FIELDS),
        ("infrazero_colour", VARIABLES),
        ("", listfields.FIELDS),
        ("anything", ()),
        # What all names begin with says nothing.
        ("infrazero_", VARIABLES),
    ],
)
def test_suggests_nothing_that_is_unlike(name, known):
    assert suggestions.nearest(name, known) is None


@hypothesis.given(st.sampled_from(VARIABLES + listfields.FIELDS + SETTINGS))
def test_a_known_name_is_its_own_nearest(name):
    assert suggestions.nearest(name, VARIABLES + listfields.FIELDS + SETTINGS) == name


@hypothesis.given(st.text(), st.lists(st.text()))
def test_any_text_is_answered_with_a_known_name_or_nothing(name, known):
    assert suggestions.nearest(name, known) in {None, *known}


def test_the_message_names_what_was_written_and_what_was_meant():
    assert suggestions.unknown("backup_age_publickey", listfields.FIELDS, "an option") == (
        "backup_age_publickey is not an option; did you mean backup_age_public_key?"
    )
    assert suggestions.unknown("colour", listfields.FIELDS, "an option") == "colour is not an option"


def test_the_message_is_one_short_line_whatever_the_name_is():
    message = suggestions.unknown("\x1b[2J\n" + "x" * 10_000, listfields.FIELDS, "an option")
    assert message.isprintable()
    assert len(message) < 200
