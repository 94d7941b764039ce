# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which package of Debian or apt.postgresql.org contains an extension, for hints about extensions that a host lacks."""

from __future__ import annotations

# Extensions by package; ``{}`` is the major version.
_EXTENSIONS = {
    "pgagent": ("pgagent",),
    "postgresql-plperl-{}": (
        *("bool_plperl", "bool_plperlu", "hstore_plperl", "hstore_plperlu", "jsonb_plperl", "jsonb_plperlu"),
        *("plperl", "plperlu"),
    ),
    "postgresql-plpython3-{}": ("hstore_plpython3u", "jsonb_plpython3u", "ltree_plpython3u", "plpython3u"),
    "postgresql-pltcl-{}": ("pltcl", "pltclu"),
    "postgresql-{}-cron": ("pg_cron",),
    "postgresql-{}-dirtyread": ("pg_dirtyread",),
    "postgresql-{}-extra-window-functions": ("extra_window_functions",),
    "postgresql-{}-first-last-agg": ("first_last_agg",),
    "postgresql-{}-icu-ext": ("icu_ext",),
    "postgresql-{}-londiste-sql": ("londiste",),
    "postgresql-{}-mysql-fdw": ("mysql_fdw",),
    "postgresql-{}-ogr-fdw": ("ogr_fdw",),
    "postgresql-{}-partman": ("pg_partman",),
    "postgresql-{}-pg-fact-loader": ("pg_fact_loader",),
    "postgresql-{}-pg-qualstats": ("pg_qualstats",),
    "postgresql-{}-pg-stat-kcache": ("pg_stat_kcache",),
    "postgresql-{}-pg-track-settings": ("pg_track_settings",),
    "postgresql-{}-pg-wait-sampling": ("pg_wait_sampling",),
    "postgresql-{}-pgq-node": ("pgq_node",),
    "postgresql-{}-pgq3": ("pgq",),
    "postgresql-{}-pgsphere": ("pg_sphere",),
    "postgresql-{}-pgvector": ("vector",),
    "postgresql-{}-pldebugger": ("pldbgapi",),
    "postgresql-{}-pllua": ("hstore_pllua", "hstore_plluau", "pllua", "plluau"),
    "postgresql-{}-plpgsql-check": ("plpgsql_check",),
    "postgresql-{}-pointcloud": ("pointcloud", "pointcloud_postgis"),
    "postgresql-{}-postgis-3": (
        *("address_standardizer", "address_standardizer_data_us", "postgis", "postgis_raster", "postgis_sfcgal"),
        *("postgis_tiger_geocoder", "postgis_topology"),
    ),
    "postgresql-{}-preprepare": ("pre_prepare",),
    "postgresql-{}-rational": ("pg_rational",),
    "postgresql-{}-repack": ("pg_repack",),
    "postgresql-{}-set-user": ("set_user",),
    "postgresql-{}-similarity": ("pg_similarity",),
    "postgresql-{}-tablelog": ("table_log",),
    "postgresql-{}-tds-fdw": ("tds_fdw",),
}
_PACKAGES = {extension: package for package, extensions in _EXTENSIONS.items() for extension in extensions}
_NAMED_LIKE_THE_EXTENSION = frozenset(
    {
        *("asn1oid", "debversion", "hll", "hypopg", "ip4r", "jsquery", "numeral", "orafce", "periods", "pgaudit"),
        *("pgfincore", "pglogical", "pgmemcache", "pgmp", "pgpcre", "pgrouting", "pgtap", "plprofiler", "plproxy"),
        *("plsh", "powa", "prefix", "prioritize", "q3c", "rdkit", "rum", "semver", "tdigest", "toastinfo", "unit"),
    }
)
# PostgreSQL's own extensions, which Debian ships in the server's package.
_CONTRIB = frozenset(
    {
        *("adminpack", "amcheck", "autoinc", "bloom", "btree_gin", "btree_gist", "citext", "cube", "dblink"),
        *("dict_int", "dict_xsyn", "earthdistance", "file_fdw", "fuzzystrmatch", "hstore", "insert_username"),
        *("intagg", "intarray", "isn", "lo", "ltree", "moddatetime", "old_snapshot", "pageinspect", "pg_buffercache"),
        *("pg_freespacemap", "pg_prewarm", "pg_stat_statements", "pg_surgery", "pg_trgm", "pg_visibility"),
        *("pg_walinspect", "pgcrypto", "pgrowlocks", "pgstattuple", "postgres_fdw", "refint", "seg", "sslinfo"),
        *("tablefunc", "tcn", "tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "xml2"),
    }
)


def package_hint(extension: str, major: int) -> str:
    """Return what to do about an extension that a host with PostgreSQL *major* lacks."""
    if extension in _CONTRIB:
        return f"install the package postgresql-{major} (outside Debian, postgresql{major}-contrib)"
    named = f"postgresql-{{}}-{extension}" if extension in _NAMED_LIKE_THE_EXTENSION else ""
    package = _PACKAGES.get(extension, named)
    return f"install the package {package.format(major)}" if package else "install it, or dump without it"
