# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import platform

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.filter import signers as filters

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
LINE = f'db1 namespaces="manifest@infrazero.database" {KEY}'


def test_values() -> None:
    assert filters.signing_name("db1") == "db1"
    assert filters.signing_name("localhost") == platform.node()
    assert filters.signer_line(KEY, "db1") == LINE
    assert filters.gathered_signers("", "db1", KEY) == f"{LINE}\n"
    assert filters.signer_report(LINE, "db1", KEY).startswith("db1 signs with the key SHA256:")


def test_an_older_key_ends_now() -> None:
    older = LINE.replace("AQEB", "AgIC")
    before = datetime.datetime.now(datetime.timezone.utc)
    text = filters.gathered_signers(older, "db1", KEY, replace=True)
    end = datetime.datetime.strptime(text.split('"')[1] + "+0000", "%Y%m%d%H%M%S%z")
    assert before.replace(microsecond=0) <= end <= datetime.datetime.now(datetime.timezone.utc)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("signing_name", ("db*",)),
        ("signer_line", ("nonsense", "db1")),
        ("gathered_signers", ("", "db1", "nonsense")),
        ("signer_report", ("", "db1", "nonsense")),
    ],
)
def test_faults_are_errors_of_the_filter(name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(AnsibleFilterError, match=rf"infrazero\.database\.{name}: configuration: .*hint"):
        getattr(filters, name)(*arguments)
