# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on a host is answered in one paragraph, and docs/troubleshooting.md has these answers."""

from __future__ import annotations

import runpy
import typing as t

import pytest

from conftest import ROOT
from tests.support import troubles
from tests.support.troubles import TROUBLES, Answer

#: What failed, why, and what to do.
PARTS = {
    "no destination": (2, "nothing says where backups are stored", "neither a bucket nor", "DB_BACKUP_BUCKET"),
    "wrong secret": (1, "can't be read", "SignatureDoesNotMatch", "S3_SECRET_ACCESS_KEY"),
    "wrong bucket": (1, "s3://bakcups/", "NoSuchBucket", "create the bucket, or correct its name"),
    "clock": (1, "can't be read", "1 d ahead of the store's", "synchronize the clock"),
    "full disk": (1, "can't be written", "No space left on device: /mnt/backups", "free some space"),
    "unknown signer": (
        1,
        "signed with a key that is not trusted",
        "names the host db2",
        "compare the key's fingerprint",
    ),
    "missing slash": (1, "object db/shop is not in the bucket s3://backups", "NoSuchKey", "did you mean db/shop/"),
    "wrong name": (2, "'shopp' is not in the databases list", "the list has 'shop', 'ledger'", "did you mean 'shop'?"),
    "wrong key": (1, "does not open", "the key of database ledger", "give the private key of one of these"),
}


@pytest.fixture(scope="module")
def found() -> t.Iterator[dict[str, Answer]]:
    with troubles.world() as it:
        yield troubles.answers(it)


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_is_answered_in_one_paragraph(found: dict[str, Answer], name: str) -> None:
    if name not in found:
        pytest.skip("it can't be brought about on this machine")
    status, *parts = PARTS[name]
    answer = found[name]
    assert answer.status == status
    assert answer.text.startswith("error: ")
    assert "\n" not in answer.text
    assert [part for part in parts if part not in answer.text] == [], answer.text


def test_the_page_has_these_answers_and_every_kind_of_error(found: dict[str, Answer]) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "troubleshooting.py"), run_name="troubleshooting")
    # Not current: run scripts/troubleshooting.py.
    assert script["current"](found) == (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
