# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Identities and digests of objects, from the rows of the server's catalogs.

A digest covers everything in the rows of an object that has an effect, with all OIDs resolved: to names where objects
are the system's own, and to what they consist of where a user may have created them.  So two objects have the same
digest only if they do the same, in another database and in another major version, too:

- a function: its language, source, library, settings, and so on, and the shapes of the types that it takes and returns;
- a type: its layout in memory, and the library functions that read and write it;
- everything else: its own columns, and the digests of the functions that it calls.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

from .catalog_kinds import kinds

if t.TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

#: The first OID of objects that users create (FirstNormalObjectId).
FIRST_USER_OID = 16384

#: Settings on which the server's texts of expressions depend, for the current transaction.
SETTINGS = (
    "SET LOCAL search_path = ''; SET LOCAL DateStyle = 'ISO, MDY'; SET LOCAL IntervalStyle = 'postgres';"
    " SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex';"
    " SET LOCAL quote_all_identifiers = off; SET LOCAL lc_monetary = 'C'"
)


@dataclasses.dataclass(frozen=True)
class Described:
    """An object as the catalogs have it.

    :param owner: its owner's name; ``None``: such objects have none.
    :param owned_by_superuser: also true for objects without an owner.
    :param privileges: (grantee or ``None`` for PUBLIC, with grant option), without superusers; ``None``: such objects
        have none.
    :param uses: OIDs of the functions that it calls in anybody's session.
    """

    kind: str
    oid: int
    identity: str
    digest: str
    owner: str | None
    owned_by_superuser: bool
    privileges: tuple[tuple[str | None, bool], ...] | None
    uses: tuple[int, ...]


_DESCRIBE = """
SELECT o.oid::bigint, (pg_catalog.pg_identify_object('pg_catalog.{catalog}'::pg_catalog.regclass, o.oid, 0)).identity,
       {row}, w.rolname::text, coalesce(w.rolsuper, true),
       CASE WHEN {acl} IS NOT NULL THEN coalesce((
           SELECT jsonb_agg(jsonb_build_array(g.rolname, x.is_grantable) ORDER BY g.rolname, x.is_grantable)
           FROM pg_catalog.aclexplode({acl}) x LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantee
           -- Superusers need none, and what is theirs is nobody else's after a change of names.
           WHERE x.grantee = 0 OR NOT g.rolsuper), '[]') END,
       ARRAY(SELECT u::bigint FROM pg_catalog.unnest({uses}) u WHERE u <> 0)
FROM pg_catalog.{catalog} o
{source}
LEFT JOIN pg_catalog.pg_roles w ON w.oid = {owner}
WHERE {condition}
ORDER BY o.oid
"""

_TYPE = """
SELECT n.nspname, y.typname, y.typtype, y.typisdefined, y.typelem::bigint, y.typrelid::bigint, y.typbasetype::bigint,
       EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = y.oid),
       (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = y.oid AND d.deptype = 'e'),
       jsonb_build_array(y.typtype, y.typlen, y.typbyval, y.typalign, y.typstorage, y.typcategory, y.typispreferred,
                         y.typdelim, y.typdefault, y.typcollation <> 0),
       ARRAY[y.typinput::oid::bigint, y.typoutput::oid::bigint, y.typreceive::oid::bigint, y.typsend::oid::bigint,
             y.typmodin::oid::bigint, y.typmodout::oid::bigint, y.typanalyze::oid::bigint, {subscript}],
       r.rngsubtype::bigint, r.rngsubopc::bigint, r.rngcollation::bigint,
       r.rngcanonical::oid::bigint, r.rngsubdiff::oid::bigint
FROM pg_catalog.pg_type y
JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = y.oid
WHERE y.oid = %s
"""

_FUNCTION = """
SELECT n.nspname, p.proname, p.prokind, l.lanname, p.prosrc, p.probin,
       ARRAY(SELECT an.nspname || '.' || y.typname FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY u(oid, i)
             JOIN pg_catalog.pg_type y ON y.oid = u.oid JOIN pg_catalog.pg_namespace an ON an.oid = y.typnamespace
             ORDER BY u.i),
       (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid = %s
"""

_COLUMNS = """
SELECT attname, atttypid::bigint FROM pg_catalog.pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

_OPERATOR_FUNCTION = "SELECT oprcode::oid::bigint FROM pg_catalog.pg_operator WHERE oid = %s"

_KINDS_OF_ROUTINES = {"f": "function", "w": "function", "p": "procedure", "a": "aggregate"}


class Digests:
    """Describes objects of the cursor's database, for one transaction with :data:`SETTINGS`.

    :param expected: the digest that a type will have once it is complete, by its identity.  It stands for a type of
        which there is only a shell: the functions that read and write a type are created before it.
    """

    def __init__(self, cursor: Cursor, version: int, *, expected: t.Mapping[str, str] | None = None) -> None:
        self._cursor = cursor
        self.kinds = kinds(version)
        # Before PostgreSQL 14 there was none; since then the default is one of the system's.
        subscript = "CASE WHEN y.typsubscript::oid >= 16384 THEN y.typsubscript::oid::bigint END"
        self._type = _TYPE.format(subscript=subscript if version >= 140000 else "NULL")
        self._expected = expected or {}
        self._resolved: dict[tuple[str, int], t.Any] = {}
        self._entered: set[int] = set()
        self._resolvers: tuple[tuple[str, t.Callable[[int], t.Any]], ...] = (
            ("$type", self.type),
            ("$function", self.function),
            ("$short", self._short),
            ("$operator", self.operator),
        )

    def describe(self, kind: str, condition: str, parameters: t.Mapping[str, t.Any]) -> list[Described]:
        """Describe the objects of a *kind* that meet a *condition*, which calls their rows ``o``."""
        one = self.kinds[kind]
        self._cursor.execute(
            _DESCRIBE.format(
                catalog=one.catalog,
                row=one.row,
                source=one.source,
                owner=one.owner,
                acl=one.acl,
                uses=one.uses,
                condition=condition,
            ),
            parameters,
        )
        return [
            Described(
                kind,
                oid,
                identity,
                self._digest(kind, oid, row),
                owner,
                by_superuser,
                None if privileges is None else tuple((grantee, grantable) for grantee, grantable in privileges),
                tuple(uses),
            )
            for oid, identity, row, owner, by_superuser, privileges, uses in self._cursor.fetchall()
            # Somebody has dropped it meanwhile.
            if identity is not None
        ]

    def _digest(self, kind: str, oid: int, row: t.Any) -> str:
        return self.type_digest(oid) if kind == "type" else _sha256({"kind": kind, "row": self._resolve(row)})

    def _resolve(self, value: t.Any) -> t.Any:
        if isinstance(value, list):
            return [self._resolve(one) for one in value]
        if not isinstance(value, dict):
            return value
        for key, resolve in self._resolvers:
            if key in value:
                return self._once(key, value[key], resolve)
        if "$name" in value:
            catalog, oid = value["$name"]
            return self._identity(catalog, oid)
        return {key: self._resolve(one) for key, one in value.items()}

    def _once(self, what: str, oid: int, resolve: t.Callable[[int], t.Any]) -> t.Any:
        found = self._resolved.get((what, oid))
        if found is None and oid:
            found = resolve(oid)
            # A type that contains itself is abbreviated inside of itself only.
            if not self._entered:
                self._resolved[what, oid] = found
        return found

    def _row(self, query: str, oid: int) -> tuple[t.Any, ...] | None:
        self._cursor.execute(query, (oid,))
        return self._cursor.fetchone()

    def _identity(self, catalog: str, oid: int) -> str | None:
        if not oid:
            return None
        self._cursor.execute(
            "SELECT (pg_catalog.pg_identify_object(%s::pg_catalog.regclass, %s::oid, 0)).identity",
            (f"pg_catalog.{catalog}", oid),
        )
        return t.cast("str | None", self._cursor.fetchall()[0][0])

    # Types ------------------------------------------------------------------------------------------------------------

    def type(self, oid: int) -> t.Any:
        """What a type consists of, as far as it matters to those who use its values."""
        row = self._row(self._type, oid)
        if row is None:
            return None
        schema, name, what, defined, element, relation, base, is_array, extension, layout, functions = row[:11]
        known = {"type": f"{schema}.{name}"}
        if oid < FIRST_USER_OID:
            return known
        if is_array:
            return {"array": self._once("$type", element, self.type)}
        if extension is not None:
            return {**known, "extension": extension, "layout": layout[:4], "input": self._short(functions[0])}
        if not defined or what == "b" or (what == "r" and row[14]):
            return {**known, "digest": self.type_digest(oid)}
        if oid in self._entered:
            return known
        self._entered.add(oid)
        try:
            if what == "d":
                return {**known, "domain": self.type(base)}
            if what == "r":
                return {**known, "range": self.type(row[11])}
            if what == "c":
                self._cursor.execute(_COLUMNS, (relation,))
                return {**known, "columns": [[column, self.type(its)] for column, its in self._cursor.fetchall()]}
            return {**known, "kind": what}
        finally:
            self._entered.remove(oid)

    def type_digest(self, oid: int) -> str:
        """The digest of a base type, or of a range type that only a superuser can create."""
        row = self._row(self._type, oid)
        if row is None:
            return ""
        schema, name, what, defined, element, _relation, _base, _is_array, _extension, layout, functions = row[:11]
        if not defined:
            identity = self._identity("pg_type", oid)
            expected = self._expected.get(identity or "")
            return expected if expected is not None else _sha256({"kind": "type", "shell": f"{schema}.{name}"})
        content: dict[str, t.Any] = {"kind": "type", "type": f"{schema}.{name}", "layout": layout}
        if what == "r":
            subtype, operators, collation, canonical, difference = row[11:]
            content.update(
                subtype=self.type(subtype),
                operators=self._identity("pg_opclass", operators),
                collation=self._identity("pg_collation", collation),
                functions=[self._short(canonical), self._short(difference)],
            )
        else:
            content.update(
                element=self.type(element) if element else None, functions=[self._short(one) for one in functions]
            )
        return _sha256(content)

    # Functions --------------------------------------------------------------------------------------------------------

    def _short(self, oid: int) -> t.Any:
        """A function without what its types consist of: they may consist of this function."""
        row = self._row(_FUNCTION, oid) if oid else None
        if row is None:
            return None
        schema, name, _kind, language, source, library, arguments, _extension = row
        known = {"function": f"{schema}.{name}", "arguments": arguments}
        if oid < FIRST_USER_OID:
            return known
        return {**known, "language": language, "source": source, "library": library}

    def function(self, oid: int) -> t.Any:
        """A function that an object calls, with all that it does itself."""
        row = self._row(_FUNCTION, oid)
        if row is None:
            return None
        known = self._short(oid)
        if oid < FIRST_USER_OID:
            return known
        if row[7] is not None:
            return {**known, "extension": row[7]}
        kind = _KINDS_OF_ROUTINES[row[2]]
        return {**known, "digest": self.describe(kind, "o.oid = %(oid)s", {"oid": oid})[0].digest}

    def operator(self, oid: int) -> t.Any:
        """An operator, with the function that it calls."""
        identity = self._identity("pg_operator", oid)
        row = self._row(_OPERATOR_FUNCTION, oid)
        if oid < FIRST_USER_OID or row is None:
            return identity
        return [identity, self._once("$function", row[0], self.function)]


def _sha256(content: t.Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
