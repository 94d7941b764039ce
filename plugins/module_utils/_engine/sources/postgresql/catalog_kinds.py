# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a digest of an object covers, by the object's kind: SQL over the rows of the server's catalogs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kind:
    """Objects of one kind.

    :param name: as ``pg_identify_object`` says it.
    :param catalog: the catalog with their rows.
    :param row: SQL expression of what a digest covers, a jsonb object; ``o`` is the row.  ``{"$type": oid}``,
        ``{"$function": oid}``, ``{"$short": oid}``, ``{"$operator": oid}`` and ``{"$name": [catalog, oid]}`` are
        resolved.
    :param source: what follows ``FROM catalog o``.
    :param owner: SQL expression of the owner's OID; ``NULL``: such objects have none.
    :param acl: SQL expression of the privileges.
    :param uses: SQL expression of the array of the functions that it calls in anybody's session.
    :param command: the kind in ``ALTER ... OWNER``.
    """

    name: str
    catalog: str
    row: str
    source: str = ""
    owner: str = "NULL::pg_catalog.oid"
    acl: str = "NULL::pg_catalog.aclitem[]"
    uses: str = "'{}'::pg_catalog.oid[]"
    command: str = ""


def _types(array: str) -> str:
    return (
        "(SELECT jsonb_agg(jsonb_build_object('$type', u.oid::bigint) ORDER BY u.n)"
        f" FROM pg_catalog.unnest({array}::pg_catalog.oid[]) WITH ORDINALITY u(oid, n))"
    )


def _type(column: str) -> str:
    return f"jsonb_build_object('$type', {column}::oid::bigint)"


def _function(column: str) -> str:
    return f"jsonb_build_object('$function', {column}::oid::bigint)"


def _operator(column: str) -> str:
    return f"jsonb_build_object('$operator', {column}::oid::bigint)"


def _name(catalog: str, column: str) -> str:
    return f"jsonb_build_object('$name', jsonb_build_array('{catalog}', {column}::oid::bigint))"


def _options(column: str) -> str:
    # pg_dump sorts them.
    as_sorted = 'pg_catalog.array_agg(u ORDER BY u COLLATE "C")'
    return f"(SELECT pg_catalog.to_jsonb({as_sorted}) FROM pg_catalog.unnest({column}) u)"


def _object(**values: str) -> str:
    return "jsonb_build_object(" + ", ".join(f"'{key}', {value}" for key, value in values.items()) + ")"


_ROUTINE = _object(
    kind="o.prokind",
    language="l.lanname",
    source="o.prosrc",
    library="o.probin",
    config="o.proconfig",
    security_definer="o.prosecdef",
    volatility="o.provolatile",
    leakproof="o.proleakproof",
    strict="o.proisstrict",
    parallel="o.proparallel",
    cost="o.procost",
    rows="o.prorows",
    set="o.proretset",
    variadic=_type("o.provariadic"),
    # A function in C: nothing else can take internal.
    support="jsonb_build_object('$short', o.prosupport::oid::bigint)",
    arguments=_types("coalesce(o.proallargtypes, o.proargtypes::pg_catalog.oid[])"),
    modes="o.proargmodes",
    names="o.proargnames",
    defaults="pg_catalog.pg_get_expr(o.proargdefaults, 0)",
    returns=_type("o.prorettype"),
    transforms=_types("o.protrftypes"),
)
# Before PostgreSQL 14 a function's body is always a string.
_BODY = " || jsonb_build_object('body', pg_catalog.pg_get_function_sqlbody(o.oid))"
_NO_BODY = " || jsonb_build_object('body', NULL)"
_OF_AGGREGATE = _object(
    kind="a.aggkind",
    direct="a.aggnumdirectargs",
    functions="jsonb_build_array("
    + ", ".join(
        _function(f"a.agg{name}")
        for name in (
            *("transfn", "finalfn", "combinefn", "serialfn", "deserialfn", "mtransfn", "minvtransfn", "mfinalfn"),
        )
    )
    + ")",
    extra="jsonb_build_array(a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify, a.aggmfinalmodify)",
    sort=_operator("a.aggsortop"),
    types="jsonb_build_array(" + _type("a.aggtranstype") + ", " + _type("a.aggmtranstype") + ")",
    space="jsonb_build_array(a.aggtransspace, a.aggmtransspace)",
    initial="jsonb_build_array(a.agginitval, a.aggminitval)",
)
_LANGUAGE_OF = "JOIN pg_catalog.pg_language l ON l.oid = o.prolang"
_ACL_OF_ROUTINE = "coalesce(o.proacl, pg_catalog.acldefault('f', o.proowner))"


def _subscription_row() -> str:
    # Which columns there are depends on the version; those that have their default say nothing.
    of_versions = {
        "subbinary": "'false'",
        "substream": "'false', 'f'",
        "subtwophasestate": "'d'",
        "subdisableonerr": "'false'",
        "subpasswordrequired": "'true'",
        "subrunasowner": "'false'",
        "suborigin": "'any'",
        "subfailover": "'false'",
    }
    row = "pg_catalog.to_jsonb(o)"
    parts = [
        f"CASE WHEN {row} ->> '{column}' IN ({defaults}) THEN NULL"
        # 'true' was written 't' later; a state that is pending is the same as one that is enabled.
        f" WHEN {row} ->> '{column}' IN ('true', 't', 'p', 'e') AND '{column}' <> 'substream' THEN 'true'"
        f" WHEN {row} ->> '{column}' IN ('true', 't') THEN 'true' ELSE {row} ->> '{column}' END"
        for column, defaults in of_versions.items()
    ]
    return _object(
        connection="o.subconninfo",
        slot="o.subslotname",
        commit="o.subsynccommit",
        publications="o.subpublications",
        options="jsonb_build_array(" + ", ".join(parts) + ")",
    )


def kinds(version: int) -> dict[str, Kind]:
    """The kinds by their names, for a server of a *version* such as 150018."""
    routine = _ROUTINE + (_BODY if version >= 140000 else _NO_BODY)
    of_routines = {"owner": "o.proowner", "acl": _ACL_OF_ROUTINE}
    found = (
        Kind("function", "pg_proc", routine, _LANGUAGE_OF, command="FUNCTION", **of_routines),
        Kind("procedure", "pg_proc", routine, _LANGUAGE_OF, command="PROCEDURE", **of_routines),
        Kind(
            "aggregate",
            "pg_proc",
            f"{routine} || jsonb_build_object('aggregate', {_OF_AGGREGATE})",
            f"{_LANGUAGE_OF} JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = o.oid",
            command="AGGREGATE",
            **of_routines,
        ),
        # What a type consists of is found by Digests.type().
        Kind("type", "pg_type", _type("o.oid"), owner="o.typowner", command="TYPE"),
        Kind(
            "cast",
            "pg_cast",
            _object(
                source=_type("o.castsource"),
                target=_type("o.casttarget"),
                function=_function("o.castfunc"),
                context="o.castcontext",
                method="o.castmethod",
            ),
            uses="ARRAY[o.castfunc]",
        ),
        Kind(
            "operator class",
            "pg_opclass",
            _object(
                method=_name("pg_am", "o.opcmethod"),
                family=_name("pg_opfamily", "o.opcfamily"),
                default="o.opcdefault",
                type=_type("o.opcintype"),
                key=_type("o.opckeytype"),
            ),
            owner="o.opcowner",
            command="OPERATOR CLASS",
        ),
        Kind(
            "operator family",
            "pg_opfamily",
            _object(method=_name("pg_am", "o.opfmethod")),
            owner="o.opfowner",
            command="OPERATOR FAMILY",
        ),
        Kind(
            "operator of access method",
            "pg_amop",
            _object(
                family=_name("pg_opfamily", "o.amopfamily"),
                types=f"jsonb_build_array({_type('o.amoplefttype')}, {_type('o.amoprighttype')})",
                strategy="o.amopstrategy",
                purpose="o.amoppurpose",
                operator=_operator("o.amopopr"),
                sort=_name("pg_opfamily", "o.amopsortfamily"),
            ),
            uses="ARRAY(SELECT p.oprcode::oid FROM pg_catalog.pg_operator p WHERE p.oid = o.amopopr)",
        ),
        Kind(
            "function of access method",
            "pg_amproc",
            _object(
                family=_name("pg_opfamily", "o.amprocfamily"),
                types=f"jsonb_build_array({_type('o.amproclefttype')}, {_type('o.amprocrighttype')})",
                number="o.amprocnum",
                function=_function("o.amproc"),
            ),
            uses="ARRAY[o.amproc::oid]",
        ),
        Kind("access method", "pg_am", _object(type="o.amtype", handler=_function("o.amhandler"))),
        Kind(
            "transform",
            "pg_transform",
            _object(
                type=_type("o.trftype"),
                language=_name("pg_language", "o.trflang"),
                functions=f"jsonb_build_array({_function('o.trffromsql')}, {_function('o.trftosql')})",
            ),
        ),
        Kind(
            "text search template",
            "pg_ts_template",
            _object(functions=f"jsonb_build_array({_function('o.tmplinit')}, {_function('o.tmpllexize')})"),
        ),
        Kind(
            "text search parser",
            "pg_ts_parser",
            _object(
                functions="jsonb_build_array("
                + ", ".join(_function(f"o.prs{name}") for name in ("start", "token", "end", "headline", "lextype"))
                + ")"
            ),
        ),
        Kind(
            "language",
            "pg_language",
            _object(
                procedural="o.lanispl",
                trusted="o.lanpltrusted",
                functions="jsonb_build_array("
                + ", ".join(_function(f"o.{name}") for name in ("lanplcallfoid", "laninline", "lanvalidator"))
                + ")",
            ),
            owner="o.lanowner",
            acl="coalesce(o.lanacl, pg_catalog.acldefault('l', o.lanowner))",
            uses="ARRAY[o.lanplcallfoid, o.laninline, o.lanvalidator]",
            command="LANGUAGE",
        ),
        Kind(
            "foreign-data wrapper",
            "pg_foreign_data_wrapper",
            _object(
                handler=_function("o.fdwhandler"),
                validator=_function("o.fdwvalidator"),
                options=_options("o.fdwoptions"),
            ),
            owner="o.fdwowner",
            acl="coalesce(o.fdwacl, pg_catalog.acldefault('F', o.fdwowner))",
            uses="ARRAY[o.fdwvalidator, o.fdwhandler]",
            command="FOREIGN DATA WRAPPER",
        ),
        Kind(
            "server",
            "pg_foreign_server",
            _object(
                wrapper=_name("pg_foreign_data_wrapper", "o.srvfdw"),
                type="o.srvtype",
                version="o.srvversion",
                options=_options("o.srvoptions"),
            ),
            owner="o.srvowner",
            acl="coalesce(o.srvacl, pg_catalog.acldefault('S', o.srvowner))",
            command="SERVER",
        ),
        # Whose mapping it is may change with the names of roles.
        Kind(
            "user mapping",
            "pg_user_mapping",
            _object(server=_name("pg_foreign_server", "o.umserver"), options=_options("o.umoptions")),
        ),
        Kind(
            "event trigger",
            "pg_event_trigger",
            _object(event="o.evtevent", tags="o.evttags", enabled="o.evtenabled", function=_function("o.evtfoid")),
            owner="o.evtowner",
            uses="ARRAY[o.evtfoid]",
            command="EVENT TRIGGER",
        ),
        Kind("subscription", "pg_subscription", _subscription_row(), owner="o.subowner", command="SUBSCRIPTION"),
    )
    return {kind.name: kind for kind in found}
