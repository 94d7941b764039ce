# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps whose author owns a database and wants more; each works against ``psql`` as superuser, and none against us.

A restore of ours is followed by what is done with the database later, as a superuser: maintenance, and a backup.
Policies (row security) are not among the attacks: no superuser is ever subject to one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pathlib
import re
import subprocess
import sys
import threading
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConnectionFailed,
    EngineError,
    LoadError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import Choice
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from conftest import COLLECTIONS
from tests.support import scene
from tests.support.cluster import Cluster, ClusterError, wait_until
from tests.support.dumps import dump
from tests.support.processes import titles
from tests.support.requirements import require_contrib

FILE, HOST, PORT = "@FILE@", "@HOST@", "@PORT@"

# Tries to become superuser, wherever and as whomever it is called, and says nothing when it can't.
ACT = """
CREATE FUNCTION public.act() RETURNS void LANGUAGE plpgsql AS $$
BEGIN CREATE ROLE mallory SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END$$;
"""
# The same where only an immutable function may stand.
TRAP = (
    ACT
    + """
CREATE FUNCTION public.trap(value integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM public.act(); RETURN value; END$$;
"""
)
ROWS = "COPY public.t (id) FROM stdin;\n1\n2\n\\.\n"


@dataclasses.dataclass(frozen=True)
class Effect:
    """What an attacker has when an attack has worked: a file, or what a query says."""

    query: str = ""
    database: str = "postgres"


A_FILE = Effect()
SUPERUSER = Effect("SELECT EXISTS (SELECT FROM pg_roles WHERE rolsuper AND rolname <> 'postgres')")
LOOT = Effect("SELECT coalesce(pg_relation_size(to_regclass('public.loot')) > 0, false)", "shop")
SETTING = Effect("SELECT EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = 'postgres'::regrole OR setrole = 0)")
DAMAGE = Effect("SELECT to_regclass('s.precious') IS NULL", "other")


@dataclasses.dataclass(frozen=True)
class Attack:
    """A dump, and how it is used.

    :param refused: what our error says; ``None``: the database is restored, and the dump has gained nothing.
    :param before: what the operator of psql tells it first.
    :param after: what the operator of psql does next with what was loaded; for us the engine does what it does.
    :param tenant: what the database's user does in the end.
    :param options: of psql.
    :param cleanup: so that the database can be dropped.
    :param mended: the minor release of each major one since which psql withstands it.
    """

    name: str
    dump: str
    effect: Effect
    refused: str | None = None
    before: str = ""
    after: str = ""
    tenant: str = ""
    options: tuple[str, ...] = ()
    cleanup: str = ""
    mended: t.Mapping[int, int] = dataclasses.field(default_factory=dict)


META = "psql meta-command"
DENIED = "SQLSTATE 42501"

ATTACKS = [
    # psql's own commands: shells, files, other databases.
    Attack("meta-command: shell", f"\\! touch {FILE}\n", A_FILE, META),
    Attack("meta-command: in the middle of a statement", f"SELECT 1 \\! touch {FILE}\n;", A_FILE, META),
    Attack("meta-command: copy", f"\\copy (SELECT 1) TO PROGRAM 'touch {FILE}'\n", A_FILE, META),
    Attack("meta-command: result into a pipe", f"SELECT 1 \\g |touch {FILE}\n", A_FILE, META),
    Attack("meta-command: output into a pipe", f"\\o |touch {FILE}\nSELECT 1;\n\\o\n", A_FILE, META),
    Attack("meta-command: write the buffer", f"SELECT 1\n\\w {FILE}\n;\n", A_FILE, META),
    Attack("meta-command: backticks in a variable", f"\\set x `touch {FILE}`\n", A_FILE, META),
    Attack("meta-command: gexec", "SELECT 'CREATE ROLE mallory SUPERUSER' \\gexec\n", SUPERUSER, META),
    Attack("meta-command: include", f"\\i {FILE}.sql\n", SUPERUSER, META),
    Attack("meta-command: connect elsewhere", "\\connect other\nDROP TABLE s.precious;\n", DAMAGE, META),
    Attack(
        "variables: a result becomes a statement",
        "SELECT 'CREATE ROLE mallory SUPERUSER' AS statement \\gset\n:statement;\n",
        SUPERUSER,
        META,
    ),
    # The same, where a reader that knows less of SQL than psql sees a string, a comment or rows.
    Attack(
        "hidden: after a COPY that fails psql reads its rows as commands",
        f"COPY public.missing FROM stdin;\n\\! touch {FILE}\n\\.\n",
        A_FILE,
        "COPY public.missing failed",
        # In August 2026 psql learned to pass over the rows of a COPY that failed.
        mended={14: 24, 15: 19, 16: 15, 17: 11, 18: 5},
    ),
    Attack(
        "hidden: what looks like rows is between two strings",
        f"SELECT $$\nCOPY public.t FROM stdin;\n$$;\n\\! touch {FILE}\nSELECT $$\n\\.\n$$;\n",
        A_FILE,
        META,
    ),
    Attack(
        "hidden: behind the end of rows",
        f"CREATE TABLE public.t (id int);\n{ROWS}\\! touch {FILE}\nSELECT '\n\\.\n';\n",
        A_FILE,
        META,
    ),
    Attack(
        "hidden: a backslash that ends no string",
        f"SET standard_conforming_strings = on;\nSELECT 'it\\';\n\\! touch {FILE}\n--';\n",
        A_FILE,
        META,
    ),
    Attack(
        "hidden: a backslash that escapes a quote",
        f"SET standard_conforming_strings = off;\nSELECT 'it\\'s', ';\n', '--';\n\\! touch {FILE}\n",
        A_FILE,
        META,
    ),
    Attack("hidden: an escape string", f"SELECT E'it\\'s';\n\\! touch {FILE}\nSELECT E'\\'';\n", A_FILE, META),
    Attack("hidden: nested comments", f"/* /* */ ' */\n\\! touch {FILE}\n-- '\n", A_FILE, META),
    Attack(
        "hidden: dollar quotes that aren't nested", f"SELECT $a$ $b$ $a$;\n\\! touch {FILE}\n-- $b$ $b$\n", A_FILE, META
    ),
    Attack(
        "newline in a name (CVE-2025-8715)",
        f"--\n-- Name: harmless\n\\! touch {FILE}\n--; Type: TABLE; Schema: public; Owner: shop\n--\n\nSELECT 1;\n",
        A_FILE,
        META,
    ),
    Attack(
        "the dump's author knows its \\restrict key", f"\\restrict k\n\\unrestrict k\n\\! touch {FILE}\n", A_FILE, META
    ),
    # What the server does on its host for a superuser.
    Attack("COPY TO PROGRAM", f"COPY (SELECT 1) TO PROGRAM 'touch {FILE}';", A_FILE, DENIED),
    Attack(
        "COPY FROM PROGRAM",
        f"CREATE TABLE public.t (a text); COPY public.t FROM PROGRAM 'touch {FILE}';",
        A_FILE,
        DENIED,
    ),
    Attack("COPY TO a file", f"COPY (SELECT 1) TO '{FILE}';", A_FILE, DENIED),
    Attack(
        "COPY FROM a file", "CREATE TABLE public.loot (a text); COPY public.loot FROM '/etc/passwd';", LOOT, DENIED
    ),
    Attack(
        "COPY TO PROGRAM in a DO block",
        f"DO $do$BEGIN EXECUTE $$COPY (SELECT 1) TO PROGRAM 'touch {FILE}'$$; END$do$;",
        A_FILE,
        DENIED,
    ),
    Attack("large object into a file", f"SELECT lo_from_bytea(1, 'x'); SELECT lo_export(1, '{FILE}');", A_FILE, DENIED),
    Attack("reading a file", "CREATE TABLE public.loot AS SELECT pg_read_file('/etc/passwd');", LOOT, DENIED),
    Attack(
        "a file behind a foreign table",
        "CREATE EXTENSION file_fdw; CREATE SERVER here FOREIGN DATA WRAPPER file_fdw;"
        f"CREATE FOREIGN TABLE public.t (a text) SERVER here OPTIONS (program 'touch {FILE}');"
        "SELECT * FROM public.t;",
        A_FILE,
        "not allowed in a restore",
    ),
    Attack(
        "a function of the server's inside, without its checks",
        "CREATE FUNCTION public.export(oid, text) RETURNS integer LANGUAGE internal STRICT AS 'be_lo_export';"
        f"SELECT lo_from_bytea(1, 'x'); SELECT public.export(1, '{FILE}');",
        A_FILE,
        DENIED,
    ),
    Attack(
        "back in through the server's own socket",
        "CREATE EXTENSION dblink; SELECT dblink_exec("
        f"'host={HOST} port={PORT} user=postgres dbname=postgres', 'CREATE ROLE mallory SUPERUSER');",
        SUPERUSER,
        "not allowed in a restore",
    ),
    Attack(
        "ALTER SYSTEM",
        "ALTER SYSTEM SET archive_command = 'touch x';",
        Effect("SELECT EXISTS (SELECT FROM pg_file_settings WHERE name = 'archive_command')"),
        DENIED,
    ),
    Attack(
        "a library at every login", "ALTER ROLE ALL SET session_preload_libraries = 'auto_explain';", SETTING, DENIED
    ),
    # What belongs to the cluster.
    Attack("CREATE ROLE", "CREATE ROLE mallory SUPERUSER;", SUPERUSER, DENIED),
    Attack("ALTER ROLE", "ALTER ROLE shop SUPERUSER;", SUPERUSER, DENIED),
    Attack(
        "ALTER ROLE of the superuser: its search_path",
        "ALTER ROLE postgres SET search_path = public, pg_catalog;",
        SETTING,
        DENIED,
    ),
    Attack(
        "ALTER DATABASE of others",
        "ALTER DATABASE other OWNER TO shop;",
        Effect("SELECT datdba = 'shop'::regrole FROM pg_database WHERE datname = 'other'"),
    ),
    Attack(
        "membership in a role that reads files",
        "GRANT pg_read_server_files TO shop;",
        Effect("SELECT pg_has_role('shop', 'pg_read_server_files', 'MEMBER')"),
    ),
    Attack(
        "the catalog itself",
        "UPDATE pg_catalog.pg_authid SET rolsuper = true WHERE rolname = 'shop';",
        SUPERUSER,
        DENIED,
    ),
    Attack(
        "DROP DATABASE of others",
        "DROP DATABASE other WITH (FORCE);",
        Effect("SELECT count(*) = 0 FROM pg_database WHERE datname = 'other'"),
    ),
    Attack(
        "CREATE DATABASE",
        "CREATE DATABASE mine;",
        Effect("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'mine')"),
    ),
    Attack(
        "the sessions of others",
        "DO $$BEGIN PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'other'; END$$;",
        Effect("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'other'"),
        DENIED,
    ),
    Attack(
        "default privileges of the superuser",
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO shop;",
        Effect("SELECT EXISTS (SELECT FROM pg_default_acl WHERE defaclnamespace = 0)", "shop"),
    ),
    Attack(
        "a subscription",
        "CREATE SUBSCRIPTION s CONNECTION 'host=elsewhere' PUBLICATION p WITH (connect = false);",
        Effect("SELECT EXISTS (SELECT FROM pg_subscription)"),
        cleanup="ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s",
    ),
    Attack(
        "a foreign-data wrapper",
        "CREATE FOREIGN DATA WRAPPER anywhere;",
        Effect("SELECT EXISTS (SELECT FROM pg_foreign_data_wrapper)", "shop"),
        DENIED,
    ),
    Attack(
        "a language of one's own",
        "CREATE LANGUAGE mine HANDLER plpgsql_call_handler;",
        Effect("SELECT EXISTS (SELECT FROM pg_language WHERE lanname = 'mine')", "shop"),
        DENIED,
    ),
    # Whoever thinks that changing the role first is enough.
    Attack(
        "RESET SESSION AUTHORIZATION",
        "RESET SESSION AUTHORIZATION; CREATE ROLE mallory SUPERUSER;",
        SUPERUSER,
        DENIED,
        before="SET SESSION AUTHORIZATION shop;",
    ),
    Attack("RESET ROLE", "RESET ROLE; CREATE ROLE mallory SUPERUSER;", SUPERUSER, DENIED, before="SET ROLE shop;"),
    Attack(
        "SET ROLE as a parameter",
        "SET \"role\" = 'postgres'; CREATE ROLE mallory SUPERUSER;",
        SUPERUSER,
        DENIED,
        before="SET ROLE shop;",
    ),
    Attack(
        "SET ROLE by a function",
        "SELECT set_config('role', 'postgres', false); CREATE ROLE mallory SUPERUSER;",
        SUPERUSER,
        DENIED,
        before="SET ROLE shop;",
    ),
    # Whoever thinks that one transaction is enough.
    Attack(
        "COMMIT ends the transaction that was to be undone",
        "COMMIT; DROP TABLE s.precious; SELECT 1 / 0;",
        Effect("SELECT to_regclass('s.precious') IS NULL", "shop"),
        "DROP TABLE|22012",
        options=("--single-transaction", "--set=ON_ERROR_STOP=1"),
    ),
    Attack(
        "PREPARE TRANSACTION",
        "BEGIN; CREATE TABLE public.t (); PREPARE TRANSACTION 'for ever';",
        Effect("SELECT EXISTS (SELECT FROM pg_prepared_xacts)"),
        "has prepared 1 transactions",
        cleanup="ROLLBACK PREPARED 'for ever'",
    ),
    # Code of the dump that runs while it is loaded, as whoever loads it.
    Attack("CHECK constraint", TRAP + "CREATE TABLE public.t (id int CHECK (public.trap(id) = id));" + ROWS, SUPERUSER),
    Attack(
        "generated column",
        TRAP
        + "CREATE TABLE public.t (id int, g int GENERATED ALWAYS AS (public.trap(id)) STORED);"
        + ROWS,
        SUPERUSER,
    ),
    Attack("default", TRAP + "CREATE TABLE public.t (id int, d int DEFAULT public.trap(1));" + ROWS, SUPERUSER),
    Attack(
        "index expression",
        TRAP + "CREATE TABLE public.t (id int);" + ROWS + "CREATE INDEX ON public.t (public.trap(id));",
        SUPERUSER,
    ),
    Attack(
        "index predicate",
        TRAP + "CREATE TABLE public.t (id int);" + ROWS + "CREATE INDEX ON public.t (id) WHERE public.trap(id) > 0;",
        SUPERUSER,
    ),
    Attack(
        "domain",
        TRAP + "CREATE DOMAIN public.d AS int CHECK (public.trap(VALUE) = VALUE);CREATE TABLE public.t (id public.d);"
        + ROWS,
        SUPERUSER,
    ),
    Attack(
        "cast",
        TRAP
        + "CREATE TYPE public.e AS ENUM ('a'); CREATE FUNCTION public.number(public.e) RETURNS int LANGUAGE sql AS"
        " 'SELECT public.trap(1)'; CREATE CAST (public.e AS int) WITH FUNCTION public.number(public.e) AS ASSIGNMENT;"
        "CREATE TABLE public.t (id int); INSERT INTO public.t VALUES ('a'::public.e);",
        SUPERUSER,
    ),
    Attack(
        "operator",
        TRAP + "CREATE FUNCTION public.same(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap($1) = $2';"
        "CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = public.same);"
        "CREATE TABLE public.t AS SELECT 1 AS id WHERE 1 OPERATOR(public.===) 1;",
        SUPERUSER,
    ),
    Attack(
        "trigger",
        ACT + "CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM public.act(); RETURN NEW; END';CREATE TABLE public.t (id int);"
        "CREATE TRIGGER t BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.fire();" + ROWS,
        SUPERUSER,
    ),
    Attack(
        "rule",
        TRAP + "CREATE TABLE public.t (id int); CREATE RULE r AS ON INSERT TO public.t DO ALSO SELECT public.trap(1);"
        "INSERT INTO public.t VALUES (1);",
        SUPERUSER,
    ),
    Attack(
        "aggregate of a materialized view",
        TRAP + "CREATE FUNCTION public.step(int, int) RETURNS int LANGUAGE sql AS 'SELECT public.trap($2)';"
        "CREATE AGGREGATE public.total(int) (SFUNC = public.step, STYPE = int);"
        "CREATE MATERIALIZED VIEW public.m AS SELECT public.total(1);",
        SUPERUSER,
    ),
    Attack("DO block", ACT + "DO $$BEGIN PERFORM public.act(); END$$;", SUPERUSER),
    # Code that waits until a superuser comes along.
    Attack(
        "index expression that waits for ANALYZE",
        "CREATE FUNCTION public.trap(value integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT value';"
        "CREATE TABLE public.t (id int);" + ROWS + "CREATE INDEX ON public.t (public.trap(id));"
        + TRAP.replace("CREATE FUNCTION public.trap", "CREATE OR REPLACE FUNCTION public.trap"),
        SUPERUSER,
        after="ANALYZE",
    ),
    Attack(
        "event trigger",
        ACT + "CREATE FUNCTION public.fire() RETURNS event_trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM public.act(); END';"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.fire();",
        SUPERUSER,
        after="REASSIGN OWNED BY shop TO shop; CREATE TABLE public.later ()",
    ),
    Attack(
        "function in public that is taken for one of pg_catalog",
        TRAP + "CREATE TABLE public.t (name varchar); INSERT INTO public.t VALUES ('a');"
        "CREATE FUNCTION public.length(varchar) RETURNS int LANGUAGE sql AS 'SELECT public.trap(1)';"
        "CREATE FUNCTION public.format(varchar, varchar) RETURNS text LANGUAGE sql AS"
        " 'SELECT public.trap(1)::text';",
        SUPERUSER,
        after="SELECT sum(length(name)) FROM t",
    ),
    Attack(
        "operator in public that is taken for one of pg_catalog",
        TRAP + "CREATE TABLE public.t (name varchar); INSERT INTO public.t VALUES ('a');"
        "CREATE FUNCTION public.same(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap(1) = 1';"
        "CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same);"
        "CREATE FUNCTION public.same(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap(1) = 1';"
        "CREATE OPERATOR public.~ (LEFTARG = name, RIGHTARG = name, FUNCTION = public.same);",
        SUPERUSER,
        after="SELECT count(*) FROM t WHERE name = 'a'::varchar",
    ),
    Attack(
        "view of the superuser's favourite name",
        TRAP + "CREATE SCHEMA postgres; CREATE VIEW postgres.customers AS SELECT public.trap(1) AS id;",
        SUPERUSER,
        after="SELECT count(id) FROM customers WHERE id > 0",
    ),
    # What is left behind for the tenant to use.
    Attack(
        "SECURITY DEFINER, owned by the superuser",
        ACT + "ALTER FUNCTION public.act() SECURITY DEFINER; ALTER FUNCTION public.act() OWNER TO postgres;",
        SUPERUSER,
        tenant="SELECT public.act()",
    ),
    Attack(
        "SECURITY DEFINER procedure that nobody gave an owner",
        ACT.replace("FUNCTION", "PROCEDURE").replace("RETURNS void ", "SECURITY DEFINER "),
        SUPERUSER,
        tenant="CALL public.act()",
    ),
    Attack(
        "view with the superuser's rights",
        "CREATE VIEW public.loot AS SELECT rolname, rolpassword FROM pg_catalog.pg_authid;"
        "ALTER VIEW public.loot OWNER TO postgres; GRANT SELECT ON public.loot TO shop;",
        Effect("SELECT has_table_privilege((SELECT relowner FROM pg_class WHERE oid = 'public.loot'::regclass),"
               " 'pg_authid', 'SELECT')", "shop"),
    ),
]  # fmt: skip


class World:
    """A cluster with two tenants, shop and other, each with a database and something precious in it."""

    def __init__(self, cluster: Cluster, directory: pathlib.Path) -> None:
        self.cluster = cluster
        self.shop = scene.entry("shop")
        self.other = scene.entry("other")
        self.store = open_store(DirectorySettings(path=str(directory)))
        self.directory = directory
        self.loot = cluster.directory / "loot"
        self.loot.mkdir(exist_ok=True)
        self.loot.chmod(0o777)
        self.file = self.loot / "taken"

    def reset(self, cleanup: str = "") -> None:
        """Everything as it was: the attackers' database always, the other one where something has become of it."""
        if cleanup:
            with contextlib.suppress(ClusterError):
                self.cluster.psql(cleanup, "shop")
        for path in self.loot.iterdir():
            path.unlink()
        untouched = "SELECT datdba = 'other'::regrole FROM pg_database, s.precious WHERE datname = 'other'"
        lost = [self.shop, self.other]
        with contextlib.suppress(ClusterError):
            if self.cluster.psql(untouched, "other") == "t":
                lost = [self.shop]
        kept = "" if self.other in lost else "other"
        self.cluster.psql(
            rf"""
            ALTER ROLE postgres RESET ALL; ALTER ROLE ALL RESET ALL; ALTER SYSTEM RESET ALL;
            SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
            WHERE datname NOT IN ('postgres', 'template0', 'template1', '{kept}') \gexec
            DROP SCHEMA IF EXISTS infrazero CASCADE;
            SELECT format('DROP ROLE %I', rolname) FROM pg_roles
            WHERE rolname NOT IN ('postgres', '{kept}') AND rolname NOT LIKE 'pg\_%' \gexec
            """
            + "".join(
                f"CREATE ROLE {entry.user} LOGIN PASSWORD '{entry.password.reveal()}';"
                f"CREATE DATABASE {entry.name} OWNER {entry.user}; REVOKE ALL ON DATABASE {entry.name} FROM PUBLIC;"
                f"\n\\connect {entry.name}\n"
                f"SET ROLE {entry.user}; CREATE SCHEMA s; CREATE TABLE s.precious AS SELECT 1; RESET ROLE;\n"
                for entry in lost
            )
        )

    @property
    def psql_version(self) -> tuple[int, int]:
        """Major and minor release of the psql that is attacked."""
        said = subprocess.run([str(self.cluster.bindir / "psql"), "--version"], stdout=subprocess.PIPE, check=True)
        major, minor = re.findall(rb"[0-9]+", said.stdout)[:2]
        return int(major), int(minor)

    def text(self, attack: Attack) -> str:
        text = attack.dump.replace(FILE, str(self.file)).replace(HOST, self.cluster.host)
        return text.replace(PORT, str(self.cluster.port))

    def worked(self, effect: Effect) -> bool:
        if not effect.query:
            return self.file.exists()
        return self.cluster.psql(effect.query, effect.database) == "t"

    def psql(self, text: str, *options: str, program: str = "psql", user: str = "postgres") -> None:
        """Whatever comes of it."""
        arguments = [f"--host={self.cluster.host}", f"--port={self.cluster.port}", f"--username={user}"]
        if program == "psql":
            arguments += ["--no-psqlrc", "--quiet", "--file=-"]
        subprocess.run(
            [str(self.cluster.bindir / program), *arguments, *options, "--dbname=shop"],
            input=text.encode(),
            capture_output=True,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            check=False,
        )

    def restore(self, content: bytes, *, options: RestoreOptions | None = None) -> dict[str, t.Any]:
        self.store.put("attack", content)
        choice = Choice(self.store, "attack", None, None)
        request = Request(self.shop, choice, options or RestoreOptions())
        return dict(restore.restore(request, settings=self.cluster.settings).details)

    def live_on(self) -> None:
        """What a superuser does with a restored database later."""
        self.cluster.psql("VACUUM (FULL, ANALYZE); REINDEX DATABASE shop", "shop")
        summary = backup.back_up_all(
            [self.shop], settings=self.cluster.settings, store=self.store, options=BackupOptions()
        )
        assert not summary.failed, summary.failed[0].error

    def assert_clean(self) -> None:
        """Nothing of a restore is left, and the other tenant has lost nothing."""
        left = "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname LIKE 'infrazero%'"
        assert self.cluster.psql(left) == ""
        assert self.cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'") == "0"
        assert self.cluster.psql("SELECT count(*) FROM pg_prepared_xacts") == "0"
        assert self.cluster.psql("SELECT count(*) FROM s.precious", "other") == "1"


@pytest.fixture(scope="module")
def hostile_cluster(shared_cluster: Cluster) -> t.Iterator[Cluster]:
    with Cluster(shared_cluster.major, configuration={"max_prepared_transactions": "5"}) as running:
        yield running


@pytest.fixture
def world(hostile_cluster: Cluster, tmp_path: pathlib.Path) -> World:
    made = World(hostile_cluster, tmp_path)
    made.reset()
    return made


def is_mended(attack: Attack, psql: tuple[int, int]) -> bool:
    """Whether *psql*, a major and a minor release, withstands the attack by itself."""
    major, minor = psql
    if not attack.mended or major < min(attack.mended):
        return False
    return major > max(attack.mended) or minor >= attack.mended[major]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_works_against_psql_and_not_against_us(world: World, attack: Attack) -> None:
    text = world.text(attack)
    require_contrib(world.cluster, text)
    other = connect(world.cluster.settings, database="other")
    included = pathlib.Path(f"{world.file}.sql")
    included.write_text("CREATE ROLE mallory SUPERUSER;")
    world.psql(f"{attack.before}\n{text}", *attack.options)
    if attack.after:
        world.psql(f"{attack.after};")
    if attack.tenant:
        world.psql(f"SET SESSION AUTHORIZATION shop; {attack.tenant};")
    assert world.worked(attack.effect) != is_mended(attack, world.psql_version), "it should work against an old psql"
    other.close()

    world.reset(attack.cleanup)
    included.write_text("CREATE ROLE mallory SUPERUSER;")
    with contextlib.closing(connect(world.cluster.settings, database="other")):
        if attack.refused is None:
            world.restore(text.encode())
            world.live_on()
        else:
            with pytest.raises(EngineError) as refused:
                world.restore(text.encode())
            assert re.search(attack.refused, str(refused.value)), refused.value
            assert world.cluster.psql("SELECT count(*) FROM s.precious", "shop") == "1"
        if attack.tenant:
            world.psql(f"SET SESSION AUTHORIZATION shop; {attack.tenant};")
        assert not world.worked(attack.effect)
    world.assert_clean()


@pytest.mark.parametrize("attack", ATTACKS[::7], ids=lambda attack: attack.name)
def test_a_copy_beside_the_database_gives_a_dump_no_more(world: World, attack: Attack) -> None:
    """Nor does it reach the database that it is a copy of, which has its rows and its sessions."""
    text, name = world.text(attack), "shop_check"
    require_contrib(world.cluster, text)
    world.reset(attack.cleanup)
    pathlib.Path(f"{world.file}.sql").write_text("CREATE ROLE mallory SUPERUSER;")
    oid = "SELECT oid, datacl, datdba FROM pg_database WHERE datname = 'shop'"
    before = world.cluster.psql(oid)
    with contextlib.closing(connect(world.cluster.settings, database="shop")):
        if attack.refused is None:
            world.restore(text.encode(), options=RestoreOptions(as_name=name))
            world.cluster.psql("VACUUM (FULL, ANALYZE); REINDEX DATABASE shop_check", name)
        else:
            with pytest.raises(EngineError) as refused:
                world.restore(text.encode(), options=RestoreOptions(as_name=name))
            assert re.search(attack.refused, str(refused.value)), refused.value
    assert world.cluster.psql("SELECT count(*) FROM s.precious", "shop") == "1"
    assert world.cluster.psql(oid) == before
    inside = dataclasses.replace(attack.effect, database=name) if attack.effect.database == "shop" else attack.effect
    assert attack.refused is not None or not world.worked(inside)
    assert not world.worked(attack.effect)
    world.assert_clean()


# Crafted archives ---------------------------------------------------------------------------------------------------


def crafted(archive: bytes, old: str, new: str) -> bytes:
    """The archive with one string of its table of contents replaced: a sign, four bytes of length, the text."""

    def packed(text: str) -> bytes:
        data = text.encode()
        return b"\0" + len(data).to_bytes(4, "little") + data

    assert archive.count(packed(old)) == 1
    return archive.replace(packed(old), packed(new))


DEFINITION = "CREATE VIEW public.here AS\n SELECT 1 AS one;\n"


@pytest.fixture
def archive(world: World) -> bytes:
    world.cluster.psql("CREATE VIEW public.here AS SELECT 1 AS one", "shop")
    return dump(world.cluster, "shop", "--format=custom", "--schema-only")


def test_an_archive_whose_contents_are_a_program(world: World, archive: bytes) -> None:
    hostile = crafted(archive, DEFINITION, f"COPY (SELECT 1) TO PROGRAM 'touch {world.file}';\n")
    path = world.directory / "hostile.dump"
    path.write_bytes(hostile)
    world.psql("", str(path), program="pg_restore")
    assert world.worked(A_FILE)

    world.reset()
    with pytest.raises(LoadError, match=DENIED):
        world.restore(hostile)
    assert not world.worked(A_FILE)
    world.assert_clean()


def test_an_archive_whose_contents_are_a_meta_command(world: World, archive: bytes) -> None:
    hostile = crafted(archive, DEFINITION, f"SELECT 1;\n\\! touch {world.file}\n")
    pg_restore = subprocess.run(
        [str(world.cluster.bindir / "pg_restore"), "--file=-"], input=hostile, capture_output=True, check=True
    )
    # pg_restore of 2025 and later has psql refuse what it doesn't restrict itself.
    world.psql(re.sub(r"(?m)^\\restrict.*\n", "", pg_restore.stdout.decode()))
    assert world.worked(A_FILE)

    world.reset()
    with pytest.raises(EngineError, match=META):
        world.restore(hostile)
    assert not world.worked(A_FILE)
    world.assert_clean()


# What only a dump for us would try ----------------------------------------------------------------------------------


def test_the_dump_can_not_let_others_in_as_its_role(world: World) -> None:
    """It knows its role, and may set the role's password."""
    waits = "DO $$BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', current_user, 'known'); END$$; SELECT pg_sleep(2);"
    loading = threading.Thread(target=world.restore, args=(waits.encode(),))
    loading.start()
    role = "SELECT usename FROM pg_stat_activity WHERE application_name = 'infrazero.database load' AND query ~ 'sleep'"
    try:
        wait_until(lambda: world.cluster.psql(role) != "")
        user = world.cluster.psql(role)
        stage = world.cluster.psql(role.replace("usename", "datname", 1))
        with pytest.raises(ConnectionFailed, match="not permitted to log in"):
            connect(world.cluster.settings, database=stage, user=user, password=Secret("known"))
    finally:
        loading.join()
    world.assert_clean()


def test_no_script_of_a_superuser_runs_beside_an_accomplice(world: World) -> None:
    """Before PostgreSQL 15 a dump can GRANT its role to another one, which then has its right to connect."""
    require_contrib(world.cluster)
    hostile = (
        "DO $$BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END$$;"
        "CREATE EXTENSION pgstattuple;"
    )
    ended = threading.Event()

    def accomplice() -> None:
        ours = "FROM pg_stat_activity WHERE application_name = 'infrazero.database load' AND query ~ 'sleep'"
        wait_until(lambda: world.cluster.psql(f"SELECT count(*) {ours}") == "1")
        stage, role, pid = world.cluster.psql(f"SELECT datname, usename, pid {ours}").split("|")
        world.cluster.psql(f"GRANT {role} TO shop")
        with contextlib.closing(
            connect(world.cluster.settings, database=stage, user="shop", password=world.shop.password)
        ):
            world.cluster.psql(f"SELECT pg_cancel_backend({pid})")
            ended.wait()

    helper = threading.Thread(target=accomplice)
    helper.start()
    try:
        with pytest.raises(LoadError, match="somebody else is connected"):
            world.restore(hostile.encode())
    finally:
        ended.set()
        helper.join()
    world.assert_clean()


@pytest.mark.parametrize("function", ["autoprewarm_start_worker", "autoprewarm_dump_now"])
def test_no_worker_outlives_the_restore_that_a_dump_started_it_in(world: World, function: str) -> None:
    """It would outlive the database, too, and write into the data directory as long as the server runs."""
    require_contrib(world.cluster)
    workers = [title for title in titles() if "autoprewarm" in title]
    hostile = f"CREATE EXTENSION pg_prewarm WITH SCHEMA public; SELECT public.{function}();"
    with pytest.raises(LoadError, match=f"permission denied for function {function}"):
        world.restore(hostile.encode())
    assert [title for title in titles() if "autoprewarm" in title] == workers
    assert world.cluster.psql("SELECT (pg_stat_file('autoprewarm.blocks', true)).size") == ""
    world.assert_clean()


def test_what_is_revoked_of_an_extension_survives_the_next_backup(world: World) -> None:
    """pg_dump then writes the REVOKE, which a throwaway role can't execute."""
    require_contrib(world.cluster)
    kept = RestoreOptions(skip_acl=False)
    world.restore(b"CREATE EXTENSION pg_prewarm WITH SCHEMA public; CREATE TABLE public.t AS SELECT 1;")
    for _round in range(2):
        world.psql("SELECT public.autoprewarm_start_worker()", user="shop")
        assert world.cluster.psql("SELECT public.pg_prewarm('public.t')", "shop") == "1"
        dumped = subprocess.run(
            [
                *(str(world.cluster.bindir / "pg_dump"), f"--host={world.cluster.host}"),
                *(f"--port={world.cluster.port}", "--username=postgres", "shop"),
            ],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        assert b"REVOKE ALL ON FUNCTION public.autoprewarm_start_worker() FROM PUBLIC" in dumped
        world.restore(dumped, options=kept)
    assert not [title for title in titles() if "autoprewarm" in title]


@pytest.mark.parametrize("creator", ["postgres", "other", "shop"])
def test_default_privileges_open_nothing_that_others_create(world: World, creator: str) -> None:
    """An administrator's extension would grant its functions to the tenant, as the file access of an untrusted one."""
    details = world.restore(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator} GRANT ALL ON FUNCTIONS TO shop;"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator} GRANT ALL ON TABLES TO shop, PUBLIC;".encode(),
        options=RestoreOptions(skip_acl=False),
    )
    granted = world.cluster.psql("SELECT count(*) FROM pg_default_acl WHERE defaclrole <> 'shop'::regrole", "shop")
    # What grant_all() has created for the user, in schemas.
    of_schemas = "SELECT count(*) FROM pg_default_acl WHERE defaclnamespace <> 0 AND defaclrole <> 'shop'::regrole"
    assert granted == world.cluster.psql(of_schemas, "shop")
    assert any("PUBLIC" in warning for warning in details["warnings"]) == (creator != "shop")


def test_a_dump_that_revokes_everything_from_everybody_hurts_only_itself(world: World) -> None:
    """As its last statements, for the load needs what everybody may do."""
    details = world.restore(
        b"CREATE TABLE public.t AS SELECT 1 AS id;"
        b"REVOKE ALL ON SCHEMA pg_catalog FROM PUBLIC; REVOKE ALL ON TABLE pg_catalog.pg_roles FROM PUBLIC;"
        b"REVOKE ALL ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC;"
        b"REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC, shop, postgres;"
        b"CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';"
    )
    assert all("statistics were not collected" in warning for warning in details["warnings"])
    assert world.cluster.psql("SELECT public.f(), (SELECT count(*) FROM public.t)", "shop") == "1|1"
    assert world.cluster.psql("SELECT has_schema_privilege('shop', 'pg_catalog', 'USAGE')", "other") == "t"
    world.assert_clean()


def test_a_second_try_gives_a_function_nothing_that_the_first_did_not(world: World) -> None:
    """The database's own search_path finds what the tenant has put into it."""
    text = ACT.replace("public.act", "traps.act") + (
        "CREATE FUNCTION public.trap(value integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$"
        " BEGIN PERFORM act(); RETURN value; END$$;"
        "CREATE TABLE public.t (id int CHECK (public.trap(id) > 0));"
        "SELECT pg_catalog.set_config('search_path', '', false);"
        f"{ROWS}" + ("CREATE INDEX i ON public.t (public.trap(id));" if world.cluster.major < 17 else "")
        # Since PostgreSQL 17 the server builds an index with a search_path of its own.
    )
    world.cluster.psql("ALTER DATABASE shop SET search_path = traps")
    details = world.restore(f"CREATE SCHEMA traps;{text}".encode())
    world.live_on()
    assert details["rows"] == 2
    assert not world.worked(SUPERUSER)
    world.assert_clean()


def test_owners_that_the_dump_names_are_no_way_to_another_tenant(world: World) -> None:
    text = ACT.replace("CREATE ROLE mallory SUPERUSER", "DELETE FROM s.precious").replace(
        "LANGUAGE", "SECURITY DEFINER LANGUAGE"
    )
    details = world.restore(
        f"{text} ALTER FUNCTION public.act() OWNER TO other;".encode(),
        options=RestoreOptions(force_target_owner=False),
    )
    assert any("not a member of 'other'" in warning for warning in details["warnings"])
    assert world.cluster.psql("SELECT proowner::regrole FROM pg_proc WHERE proname = 'act'", "shop") == "shop"


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE PUBLICATION "p FOR ALL TABLES; CREATE ROLE mallory SUPERUSER; --" FOR ALL TABLES;',
        "CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert''); CREATE ROLE mallory SUPERUSER; --');",
        'CREATE EXTENSION hstore SCHEMA "s; CREATE ROLE mallory SUPERUSER";',
        'CREATE EXTENSION "hstore; CREATE ROLE mallory SUPERUSER; --";',
        'ALTER TABLE "precious OWNER TO shop; CREATE ROLE mallory SUPERUSER; --" OWNER TO shop;',
        "CREATE TABLE t (); ALTER TABLE t OWNER TO \"shop; CREATE ROLE mallory SUPERUSER; --\";",
        'REVOKE ALL ON TABLE pg_catalog."pg_roles FROM PUBLIC; CREATE ROLE mallory SUPERUSER; --" FROM PUBLIC;',
        'REVOKE SELECT ("oid) ON pg_roles FROM x; CREATE ROLE mallory SUPERUSER; --") ON TABLE pg_roles FROM PUBLIC;',
        'REVOKE ALL ON FUNCTION pg_catalog.lower("x) FROM PUBLIC; CREATE ROLE mallory SUPERUSER; --") FROM PUBLIC;',
        'REVOKE ALL ON LANGUAGE "plpgsql FROM PUBLIC; CREATE ROLE mallory SUPERUSER; --" FROM PUBLIC;',
        "REVOKE ALL ON TABLE pg_catalog.pg_roles FROM PUBLIC, \"shop; CREATE ROLE mallory SUPERUSER; --\";",
        'ALTER DEFAULT PRIVILEGES IN SCHEMA "s; CREATE ROLE mallory SUPERUSER; --" REVOKE ALL ON TYPES FROM PUBLIC;',
        'ALTER DEFAULT PRIVILEGES FOR ROLE shop IN SCHEMA "s; CREATE ROLE m SUPERUSER; --" GRANT ALL ON TYPES TO x;',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "shop; CREATE ROLE mallory SUPERUSER; --" REVOKE ALL ON TABLES FROM PUBLIC;',
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT ALL ON TABLES TO \"shop; CREATE ROLE mallory SUPERUSER; --\";",
    ],
)  # fmt: skip
def test_names_are_only_names_where_a_superuser_uses_them(world: World, statement: str) -> None:
    with contextlib.suppress(EngineError):
        world.restore(statement.encode(), options=RestoreOptions(force_target_owner=False, skip_acl=False))
    assert not world.worked(SUPERUSER)
    world.assert_clean()


def test_errors_hold_nothing_that_a_terminal_obeys(world: World) -> None:
    hostile = "DO $$BEGIN RAISE 'all is well\x1b[2J\x1b]0;pwned\x07\rreally' USING ERRCODE = '42501'; END$$;"
    with pytest.raises(LoadError) as failed:
        world.restore(hostile.encode())
    assert str(failed.value).isprintable()

    # Names go further than that: into warnings, and from COPY into the comparison with a manifest.
    name = "\x1b[2J"
    details = world.restore(
        f'CREATE TABLE public."{name}" (); ALTER TABLE public."{name}" OWNER TO other;'
        f'CREATE EVENT TRIGGER "{name}" ON ddl_command_end EXECUTE FUNCTION f();'
        f'SET default_tablespace = "{name}";'.encode(),
        options=RestoreOptions(force_target_owner=False),
    )
    assert len(details["warnings"]) == 3
    assert all(warning.isprintable() for warning in [*details["warnings"], *details["skipped"]])


# What a dump could take from the host -------------------------------------------------------------------------------

# Each gives the loader far more than it may have.
FLOODS = {
    "rows": "SELECT repeat('x', 10000000) FROM generate_series(1, 30)",
    "one value": "SELECT repeat('x', 300000000)",
    "rows of a rule": "CREATE TABLE public.t (); CREATE RULE r AS ON INSERT TO public.t DO ALSO"
    " SELECT repeat('x', 10000000) FROM generate_series(1, 30); INSERT INTO public.t DEFAULT VALUES",
    "notices": "DO $$BEGIN FOR i IN 1..30 LOOP RAISE WARNING '%', repeat('x', 10000000); END LOOP; END$$",
    "copy": "COPY (SELECT repeat('x', 10000000) FROM generate_series(1, 30)) TO STDOUT",
}

MEASURED = """
import pathlib, re, sys
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import containment, load
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings, connect,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret

host, port = sys.argv[1:]
containment._available_memory, containment.LEAST_MEMORY = lambda: 0, 64 << 20
settings = ConnectionSettings(host=host, port=int(port))
connection = connect(settings, database="shop", user="shop", password=Secret("password of shop"))
try:
    load.load(
        events.read(sys.stdin.buffer), connection=connection, admin=None, options=load.LoadOptions(skip_acl=True)
    )
except EngineError as error:
    print(error)
# Not ru_maxrss: it begins with what the process had that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.parametrize("flood", FLOODS)
def test_answers_do_not_fill_the_hosts_memory(world: World, flood: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, world.cluster.host, str(world.cluster.port)],
        input=f"{FLOODS[flood]};\n",
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(COLLECTIONS)},
        check=True,
    )
    *said, peak = done.stdout.splitlines()
    # The 64 MiB that it is let have, and what Python and the libraries take.
    assert int(peak) < 160 << 20, said
    if flood != "notices":
        assert said, "a flood of rows is an error"


def test_a_statement_that_never_ends(world: World) -> None:
    hostile = "SET statement_timeout = 0; SELECT pg_sleep(3600);"
    with pytest.raises(LoadError, match=r"it took longer than 1 seconds.*DB_RESTORE_STATEMENT_TIMEOUT"):
        world.restore(hostile.encode(), options=RestoreOptions(statement_timeout=datetime.timedelta(seconds=1)))
    world.assert_clean()
