# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.filter import server as filters

from conftest import ROOT


def test_a_block_is_written() -> None:
    text = filters.hba_block("local all all peer\n", ["host all all 10.0.0.0/8 scram-sha-256"])
    assert text.splitlines()[1:] == ["# BEGIN INFRAZERO", "host all all 10.0.0.0/8 scram-sha-256", "# END INFRAZERO"]


def test_faults_are_errors_of_the_filter() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"infrazero\.database\.hba_block: configuration: pg_hba\.conf, line 1"
    ):
        filters.hba_block("# END INFRAZERO\n", [])


def test_the_key_of_the_archives_is_the_projects() -> None:
    armored = (ROOT / "roles" / "server" / "files" / "pgdg.asc").read_text(encoding="ascii")
    match = re.search(r"-----\n\n(.*?)\n=", armored, re.DOTALL)
    assert match
    packets = base64.b64decode(match[1])
    # The first packet is the primary key, with a length of two bytes; the fingerprint is that of version 4.
    assert packets[0] == 0x99
    body = packets[3 : 3 + int.from_bytes(packets[1:3], "big")]
    fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest()
    assert fingerprint.upper() == "B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8"
