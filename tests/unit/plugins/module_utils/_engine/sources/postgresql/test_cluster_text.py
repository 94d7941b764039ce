# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a backup of globals.  What a server does with it is tested in integration/test_cluster_globals.py."""

from __future__ import annotations

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import cluster
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.cluster import (
    Globals,
    Membership,
    Role,
    Setting,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import cluster_text

#: Ends a name, a string, a comment, a line or a dollar quote where it is not quoted well.
NASTY = "x\n\r\u2028\\! id\t'\"$globals$ $globals1$;--"


def lines(*roles: Role, memberships: tuple[Membership, ...] = ()) -> list[str]:
    recorded = Globals(150018, roles=roles, memberships=memberships, tablespaces=(NASTY,))
    text = cluster_text.render(recorded)
    assert cluster.parse(text) == recorded
    return text.decode().splitlines()


def test_no_name_or_value_reaches_another_line() -> None:
    plain = Role("x", superuser=True, login=True, settings=(Setting("log_statement", "y", "superuser"),), comment="z")
    nasty = Role(
        NASTY,
        superuser=True,
        login=True,
        settings=(Setting("log_statement", NASTY, "superuser"), Setting("app.x", NASTY)),
        comment=NASTY,
    )
    made = lines(nasty, memberships=(Membership(NASTY, NASTY),))
    assert len(made) == len(lines(plain, memberships=(Membership("x", "x"),))) + 1  # for app.x
    assert all(line.isprintable() for line in made)


def test_a_dollar_quote_that_occurs_in_it_is_not_taken() -> None:
    made = lines(Role("$globals$ $globals1$"))
    (begin,) = [number for number, line in enumerate(made) if line.startswith("DO ")]
    assert made[begin] == "DO $globals2$"
    assert [line for line in made if line == "$globals2$;"]


def test_what_needs_a_decision_is_a_comment() -> None:
    made = lines(
        Role("boss", superuser=True, createdb=True),
        Role(
            "user",
            login=True,
            settings=(Setting("log_statement", "all", "superuser"), Setting("work_mem", "1", "user")),
        ),
        Role("known", login=True, password=Secret("md5" + "0" * 32)),
        memberships=(Membership("boss", "user"), Membership("pg_monitor", "user"), Membership("known", "user")),
    )
    code = [line.strip() for line in made if not line.startswith("--")]
    assert not [line for line in code if "SUPERUSER" in line or "CREATEDB" in line or "log_statement TO" in line]
    assert [line for line in code if line.startswith("GRANT")] == ['GRANT "known" TO "user";']
    assert [line.split()[3] for line in code if line.startswith("CREATE ROLE")] == ["NOLOGIN", "NOLOGIN", "LOGIN"]
    comments = made[made.index("-- Not restored above. Run what you want of it.") + 1 :]
    assert comments[:-1] == [
        '-- ALTER ROLE "boss" SUPERUSER CREATEDB;',
        '-- ALTER ROLE "user" LOGIN;',
        '-- ALTER ROLE "user" SET "log_statement" TO \'all\';',
        '-- GRANT "boss" TO "user";',
        '-- GRANT "pg_monitor" TO "user";',
    ]


def test_options_of_a_membership_are_for_servers_that_have_them() -> None:
    def grants(inherit: bool) -> list[str]:
        made = lines(Role("a"), Role("b"), memberships=(Membership("a", "b", None, True, inherit, True),))
        return [line.strip() for line in made if "GRANT" in line]

    options = 'EXECUTE \'GRANT "a" TO "b" WITH ADMIN TRUE, INHERIT {}, SET TRUE\';'
    assert grants(True) == [options.format("TRUE"), 'GRANT "a" TO "b" WITH ADMIN OPTION;']
    # Nothing wider than it was.
    assert grants(False) == [options.format("FALSE")]
