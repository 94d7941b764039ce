# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The settings of a database in a backup: for the session that loads the rows, and as SQL for ``psql``."""

from __future__ import annotations

import contextlib
import json
import typing as t

from ...errors import DumpSyntax, PostgresError
from .database_settings import DatabaseSettings, Parameter, setting_values

try:
    import psycopg2
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Settings of the database that its rows are not loaded under.  The text of a dump sets some of these itself, or is
#: written for a certain value; others would stop the load, or have no effect in a session that has begun.
_NOT_FOR_ROWS = frozenset(
    {
        "array_nulls",  # see _FOR_ROWS
        "backslash_quote",
        "bytea_output",
        "check_function_bodies",
        "client_encoding",
        "client_min_messages",
        "datestyle",
        "default_table_access_method",
        "default_tablespace",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_with_oids",
        "escape_string_warning",
        "event_triggers",
        "extra_float_digits",
        "gin_fuzzy_search_limit",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "intervalstyle",
        "lc_monetary",  # see FOR_REFRESHES
        "local_preload_libraries",
        "lock_timeout",
        "quote_all_identifiers",
        "restrict_nonsystem_relation_kind",
        "role",
        "row_security",
        "search_path",
        "session_authorization",
        "session_preload_libraries",
        "session_replication_role",
        "standard_conforming_strings",
        "statement_timeout",
        "synchronous_commit",
        "tcp_user_timeout",
        "temp_tablespaces",
        "transaction_timeout",
        "transform_null_equals",
        "xmloption",
    }
)

#: How a dump writes amounts of money, whatever the locale of its source.  The host of a restore may lack that locale.
MONEY_LOCALE = "C"

#: What the rows of every dump are written for.
_FOR_ROWS = (("array_nulls", "on"),)

#: Settings that what is computed from the rows needs, but not the rows themselves.
FOR_REFRESHES = ("lc_monetary",)

# The values are in ASCII, without a quote or a dollar sign, so that nothing in them can end the text around them.
_APPLY = """\
DO $infrazero$
DECLARE
  facts CONSTANT json := '%s';
  item json;
BEGIN
  FOR item IN SELECT value FROM pg_catalog.json_array_elements(facts -> 'session') LOOP
    BEGIN
      PERFORM pg_catalog.set_config(item ->> 0, item ->> 1, false);
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'setting %% was not set: %%', item ->> 0, SQLERRM;
    END;
  END LOOP;
  IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
    RETURN;
  END IF;
  FOR item IN SELECT value FROM pg_catalog.json_array_elements(facts -> 'statements') LOOP
    BEGIN
      EXECUTE pg_catalog.format(item ->> 0, VARIADIC ARRAY[pg_catalog.current_database()::text]
        || ARRAY(SELECT value FROM pg_catalog.json_array_elements_text(item -> 1)));
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING '%%', SQLERRM;
    END;
  END LOOP;
END
$infrazero$;
"""


#: What can be granted on a database.
_PRIVILEGES = frozenset({"CREATE", "CONNECT", "TEMPORARY"})


def of_backup(facts: t.Mapping[str, t.Any]) -> DatabaseSettings:
    """Return the settings in the preamble of a dump, of which anybody may be the author.

    :raises DumpSyntax: if they are not what a backup writes.
    """
    try:
        settings = DatabaseSettings.from_dict(facts)
        valid = _is_valid(settings)
    except (AttributeError, KeyError, PostgresError, TypeError, ValueError):
        valid = False
    if not valid:
        raise DumpSyntax("the settings in the preamble of the dump are not valid", hint="use another backup")
    return settings


def _is_valid(settings: DatabaseSettings) -> bool:
    optional = [settings.comment, *(one.role for one in settings.parameters)]
    optional += [one.grantee for one in settings.privileges]
    required = [settings.owner, *(one.grantor for one in settings.privileges)]
    required += [text for one in settings.parameters for text in (one.name, one.value)]
    required += [text for label in settings.security_labels for text in label]
    flags = [settings.allow_connections, settings.is_template, *(one.grantable for one in settings.privileges)]
    texts = [*required, *(text for text in optional if text is not None)]
    return (
        all(isinstance(text, str) and "\0" not in text for text in texts)
        and all(isinstance(flag, bool) for flag in flags)
        and isinstance(settings.connection_limit, int)
        and not isinstance(settings.connection_limit, bool)
        and all(one.privilege in _PRIVILEGES for one in settings.privileges)
        # Raises where a list of names is not one.
        and all(setting_values(one) for one in settings.parameters)
    )


def for_rows(settings: DatabaseSettings | None) -> tuple[tuple[str, str], ...]:
    """Return the parameters (name, value) under which the rows of a dump are loaded, in their order.

    :param settings: of the dumped database; ``None``: unknown, as in a backup of version 0.1.
    """
    if settings is None:
        return _FOR_ROWS
    own = (one for one in settings.parameters if one.role is None and one.name.lower() not in _NOT_FOR_ROWS)
    return (*((one.name, one.value) for one in own), *_FOR_ROWS, ("lc_monetary", MONEY_LOCALE))


def for_refreshes(settings: DatabaseSettings | None) -> tuple[tuple[str, str], ...]:
    """Return the parameters (name, value) that are set in addition before materialized views are refreshed."""
    own = () if settings is None else settings.parameters
    return tuple((one.name, one.value) for one in own if one.role is None and one.name.lower() in FOR_REFRESHES)


def set_for_rows(conn: Connection, settings: DatabaseSettings | None) -> None:
    """Set the parameters of :func:`for_rows` in the session that loads the rows.

    It may not set all of them, and this server may not have all of them, which matters only to what needs them.
    """
    with conn.cursor() as cursor:
        for name, value in for_rows(settings):
            with contextlib.suppress(psycopg2.DatabaseError):
                cursor.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


def for_psql(settings: DatabaseSettings) -> str:
    """Return SQL, in ASCII, by which a superuser's ``psql`` gives *settings* to the database it is connected to.

    For everyone else it sets only what the rows are loaded under.  What fails, such as a setting of a missing role,
    is a warning.
    """
    facts = {"session": [list(pair) for pair in for_rows(settings)], "statements": list(_statements(settings))}
    text = json.dumps(facts, separators=(",", ":"))
    return _APPLY % text.replace("'", r"\u0027").replace("$", r"\u0024")


def _statements(settings: DatabaseSettings) -> t.Iterator[tuple[str, list[str]]]:
    """Formats of statements, each with its arguments after the first, which is the database's name."""
    yield "REVOKE ALL ON DATABASE %1$I FROM PUBLIC", []
    for entry in sorted(settings.privileges, key=lambda one: (one.grantee or "", one.privilege)):
        if entry.grantee == settings.owner:
            continue
        to, arguments = ("PUBLIC", []) if entry.grantee is None else ("%2$I", [entry.grantee])
        option = " WITH GRANT OPTION" if entry.grantable else ""
        yield f"GRANT {entry.privilege} ON DATABASE %1$I TO {to}{option}", arguments
    for parameter in settings.parameters:
        yield _setting(parameter)
    for provider, label in sorted(settings.security_labels):
        yield "SECURITY LABEL FOR %2$I ON DATABASE %1$I IS %3$L", [provider, label]
    if settings.comment is not None:
        yield "COMMENT ON DATABASE %1$I IS %2$L", [settings.comment]
    if settings.connection_limit != -1:
        yield f"ALTER DATABASE %1$I CONNECTION LIMIT {settings.connection_limit}", []
    if settings.is_template:
        yield "ALTER DATABASE %1$I IS_TEMPLATE true", []


def _setting(parameter: Parameter) -> tuple[str, list[str]]:
    values = setting_values(parameter)
    places = ", ".join(f"%{place}$L" for place in range(3, 3 + len(values)))
    if parameter.role is None:
        return f"ALTER DATABASE %1$I SET %2$I TO {places}", [parameter.name, *values]
    role = 3 + len(values)
    return (
        f"ALTER ROLE %{role}$I IN DATABASE %1$I SET %2$I TO {places}",
        [parameter.name, *values, parameter.role],
    )
