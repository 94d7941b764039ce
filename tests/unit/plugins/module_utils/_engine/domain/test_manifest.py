# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import subprocess
import sys
import textwrap
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest
from hypothesis import given
from hypothesis import strategies as st

SHA256 = "0123456789abcdef" * 4
#: What the shell version writes.
CONTRACT = {"key": "db/app/20261121T032007Z.sql.gz.age", "sha256": SHA256, "created_at": "2026-11-21T03:20:07Z"}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**63 - 1)
HASHES = st.binary(max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())
#: Sizes of an object with the chunks that go with them.
CHUNKED = st.tuples(
    st.integers(0, 5 * manifest.MIN_CHUNK_SIZE), st.integers(manifest.MIN_CHUNK_SIZE, manifest.MAX_CHUNK_SIZE)
).flatmap(
    lambda sizes: st.tuples(
        st.just(sizes[0]),
        st.lists(HASHES, min_size=-(-sizes[0] // sizes[1]), max_size=-(-sizes[0] // sizes[1])).map(
            lambda hashes: manifest.Chunks(sizes[1], tuple(hashes))
        ),
    )
)
PARTS = st.builds(
    manifest.Postgresql,
    extensions=st.none() | st.lists(st.builds(manifest.Extension, NAMES, NAMES), max_size=3).map(tuple),
    roles=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    tables=st.none() | st.lists(st.builds(manifest.Table, NAMES, NUMBERS, NAMES), max_size=3).map(tuple),
    server_version_num=st.none() | NUMBERS,
    preamble_sha256=st.none() | HASHES,
    restore_findings=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    database_size=st.none() | NUMBERS,
    **{
        name: st.none() | TEXTS
        for name in (
            *("database", "system_identifier", "server_version", "dump_version", "encoding", "locale_provider"),
            *("collate", "ctype", "icu_locale", "icu_rules", "format"),
        )
    },
)
MANIFESTS = st.builds(
    lambda chunked, **fields: manifest.Manifest(size=chunked[0], chunks=chunked[1], **fields),
    st.tuples(st.none() | NUMBERS, st.none()) | CHUNKED,
    key=st.sampled_from([CONTRACT["key"], "dump.sql", 's3://other/db/日本 "$(id)"/x.sql']),
    sha256=HASHES,
    created_at=st.datetimes(
        min_value=datetime.datetime(1970, 1, 1),
        max_value=datetime.datetime(9000, 1, 1),
        timezones=st.just(datetime.timezone.utc),
    ).map(lambda moment: moment.replace(microsecond=0)),
    schema_version=st.just(manifest.SCHEMA_VERSION),
    duration_seconds=st.none() | st.floats(0, 1e9),
    plaintext_sha256=st.none() | HASHES,
    previous_sha256=st.none() | HASHES,
    recipients=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    destination=st.none()
    | st.builds(
        manifest.Destination,
        kind=st.none() | TEXTS,
        create_only=st.none() | st.booleans(),
        checksums=st.none() | st.booleans(),
    ),
    rekeyed=st.none()
    | st.builds(
        manifest.Rekeyed,
        at=st.just(datetime.datetime(2026, 11, 21, 3, 20, 7, tzinfo=datetime.timezone.utc)),
        sha256=HASHES,
        manifest=st.dictionaries(TEXTS, st.none() | TEXTS | st.integers(), max_size=3),
    ),
    part=st.none() | PARTS,
    source=st.just(manifest.POSTGRESQL),
    **{name: st.none() | NUMBERS for name in ("plaintext_size", "sequence")},
    allow_unsigned=st.none() | st.booleans(),
    **{name: st.none() | TEXTS for name in ("kind", "version", "compression", "host", "signature")},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
#: Of the head, of PostgreSQL's part, and all that version 1 had beside each other.
HEAD = [field.name for field in dataclasses.fields(manifest.Manifest)]
PART = [field.name for field in dataclasses.fields(manifest.Postgresql)]
FIELDS = [*HEAD, *PART, manifest.POSTGRESQL]


def encoded(fields: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(fields).encode("utf-8")


def of_ours(**fields: t.Any) -> bytes:
    part = {name: value for name, value in fields.items() if name in PART}
    head = {name: value for name, value in fields.items() if name not in PART}
    return encoded({**CONTRACT, "schema_version": 2, "source": "postgresql", "postgresql": part, **head})


def of_version_1(**fields: t.Any) -> bytes:
    return encoded({**CONTRACT, "schema_version": 1, **fields})


@given(MANIFESTS)
def test_what_is_written_is_read_back(written: manifest.Manifest) -> None:
    data = manifest.render(written)
    assert manifest.parse(data) == written
    assert manifest.render(manifest.parse(data)) == data


#: As version 0.1 wrote it, byte for byte.
GOLDEN = (
    b'{"collate":"C.UTF-8","compression":"gzip","created_at":"2026-11-21T03:20:07Z","ctype":"C.UTF-8","database":"app",'
    b'"dump_version":"15.18","duration_seconds":1.5,"encoding":"UTF8","extensions":[{"name":"citext","version":"1.6"}],'
    b'"format":"plain","host":"db1","key":"db/app/20261121T032007Z.sql.gz.age","locale_provider":"libc",'
    b'"plaintext_sha256":"%(sha256)s","plaintext_size":2048,"previous_sha256":"%(sha256)s","roles":["app"],'
    b'"schema_version":1,"sequence":7,"server_version":"15.18","server_version_num":150018,"sha256":"%(sha256)s",'
    b'"size":512,"system_identifier":"7400000000000000000","tables":[{"digest":"%(sha256)s","name":"public.one",'
    b'"rows":7}]}'
) % {b"sha256": SHA256.encode()}


def test_a_manifest_of_version_0_1_is_read() -> None:
    read = manifest.parse(GOLDEN)
    assert manifest.signed_text(GOLDEN) == GOLDEN
    assert (read.schema_version, read.source, read.kind, read.host) == (1, "postgresql", "dump", "db1")
    assert read.sequence == 7
    assert (read.size, read.plaintext_size, read.plaintext_sha256, read.chunks) == (512, 2048, SHA256, None)
    assert (read.database, read.system_identifier, read.rows) == ("app", "7400000000000000000", 7)
    assert read.part == manifest.Postgresql(
        database="app",
        system_identifier="7400000000000000000",
        server_version="15.18",
        server_version_num=150018,
        dump_version="15.18",
        format="plain",
        encoding="UTF8",
        locale_provider="libc",
        collate="C.UTF-8",
        ctype="C.UTF-8",
        extensions=(manifest.Extension("citext", "1.6"),),
        roles=("app",),
        tables=(manifest.Table("public.one", 7, SHA256),),
    )


#: Fields of the part that version 1 did not have.
SINCE_2 = dict.fromkeys(("icu_rules", "preamble_sha256", "restore_findings", "database_size"))


@given(PARTS.map(lambda part: dataclasses.replace(part, **SINCE_2)))
def test_version_1_had_the_fields_of_the_part_in_its_head(part: manifest.Postgresql) -> None:
    written = manifest.Manifest(
        CONTRACT["key"],
        SHA256,
        datetime.datetime(2026, 11, 21, 3, 20, 7, tzinfo=datetime.timezone.utc),
        schema_version=1,
        source="postgresql",
        kind="dump",
        sequence=3,
        plaintext_sha256=SHA256,
        part=part,
    )
    flat = {
        name: [dataclasses.asdict(item) if dataclasses.is_dataclass(item) else item for item in value]
        if isinstance(value, tuple)
        else value
        for name in PART
        if (value := getattr(part, name)) is not None
    }
    read = manifest.parse(of_version_1(sequence=3, plaintext_sha256=SHA256, **flat))
    assert read == written
    # The same backup in the form of today.
    assert manifest.parse(manifest.render(dataclasses.replace(read, schema_version=2))) == dataclasses.replace(
        written, schema_version=2
    )


@pytest.mark.parametrize(
    "field", ["source", "kind", "version", "recipients", "destination", "chunks", "postgresql", "part", "rekeyed"]
)
def test_version_1_has_none_of_the_fields_that_came_later(field: str) -> None:
    assert manifest.parse(of_version_1(**{field: "no such thing"})) == manifest.parse(of_version_1())


def test_version_2_has_none_of_the_parts_fields_in_its_head() -> None:
    read = manifest.parse(encoded({**CONTRACT, "schema_version": 2, "source": "postgresql", "database": "app"}))
    assert (read.part, read.database, read.tables, read.rows, read.system_identifier) == (None,) * 5


def test_a_backup_of_another_source_is_read_without_its_part() -> None:
    read = manifest.parse(of_ours(source="vault", vault={"tables": 1}, database="app"))
    assert (read.source, read.part) == ("vault", None)


def test_a_year_has_four_digits() -> None:
    first = datetime.datetime(1, 2, 3, tzinfo=datetime.timezone.utc)
    written = dataclasses.replace(manifest.parse(encoded(CONTRACT)), created_at=first)
    assert b'"created_at":"0001-02-03T00:00:00Z"' in manifest.render(written)
    assert manifest.parse(manifest.render(written)) == written


@given(MANIFESTS)
def test_the_bytes_are_canonical(written: manifest.Manifest) -> None:
    data = manifest.render(written)
    fields = json.loads(data)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert data == text.replace("\x7f", "\\u007f").encode("utf-8")
    assert None not in [value for name, value in fields.items() if name != "rekeyed"]
    assert set(CONTRACT) <= set(fields)


@given(MANIFESTS)
def test_the_signed_text_is_everything_but_the_signature(written: manifest.Manifest) -> None:
    expected = manifest.render(dataclasses.replace(written, signature=None))
    assert manifest.signed_text(manifest.render(written)) == expected
    spaced = json.dumps({**json.loads(manifest.render(written)), "signature": "another"}, indent=2)
    assert manifest.signed_text(spaced.encode()) == expected


def test_the_signed_text_holds_unknown_fields() -> None:
    text = manifest.signed_text(encoded({**CONTRACT, "signature": "s", "later": [1, {"b": 2.5, "a": None}]}))
    assert text.startswith(b'{"created_at":') and b'"later":[1,{"a":null,"b":2.5}]' in text
    assert b"signature" not in text


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a":1e999}', b'{"a":"\\ud800"}', b'{"a":1,"a":2}', b"[" * 5000])
def test_what_has_no_canonical_form_has_no_signed_text(data: bytes) -> None:
    with pytest.raises(errors.ManifestError, match="canonical form"):
        manifest.signed_text(data)


def test_jq_makes_the_same_signed_text() -> None:
    strange = "".join(map(chr, range(128))) + "\u2028\u00e9\u65e5\U0001f600/<>&'"
    made = manifest.parse(
        encoded(
            {
                **CONTRACT,
                "schema_version": 2,
                "source": "postgresql",
                "size": 2**53 - 1,
                "duration_seconds": 3.0,
                "recipients": [strange],
                "destination": {"kind": strange, "create_only": True, "checksums": False},
                "postgresql": {"database": strange, "tables": [{"name": strange, "rows": 0, "digest": "d"}]},
                "signature": "of it",
            }
        )
    )
    for seconds in (3.0, 0.0, 0.001, 12.345, 86399.999, 0.1):
        data = manifest.render(dataclasses.replace(made, duration_seconds=seconds))
        jq = ["jq", "--compact-output", "--join-output", "--sort-keys", "del(.signature)"]
        assert subprocess.run(jq, input=data, stdout=subprocess.PIPE, check=True).stdout == manifest.signed_text(data)


def test_the_strategy_covers_every_field() -> None:
    """A field that is added must be written and read: this fails until the strategy above knows it."""
    covered: set[str] = set()

    @given(MANIFESTS)
    def gather(written: manifest.Manifest) -> None:
        covered.update(name for name in HEAD if getattr(written, name) is not None)
        if written.part is not None:
            covered.update(name for name in PART if getattr(written.part, name) is not None)

    gather()
    assert covered == {*HEAD, *PART}


def test_the_shell_versions_manifest_is_read() -> None:
    read = manifest.parse((json.dumps(CONTRACT, indent=2) + "\n").encode())
    assert (read.key, read.sha256) == (CONTRACT["key"], SHA256)
    assert read.created_at == datetime.datetime(2026, 11, 21, 3, 20, 7, tzinfo=datetime.timezone.utc)
    assert read.rows is None
    assert json.loads(manifest.render(read)) == CONTRACT


@given(st.dictionaries(st.sampled_from([name for name in FIELDS if name not in (*CONTRACT, "schema_version")]), JSON))
def test_fields_of_another_tool_may_stand_beside_the_contracts(others: dict[str, t.Any]) -> None:
    others = json.loads(json.dumps(others).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0"))
    assert manifest.parse(encoded({**others, **CONTRACT})) == manifest.parse(encoded(CONTRACT))


def test_unknown_fields_are_ignored() -> None:
    assert manifest.parse(of_ours(later="x")) == manifest.parse(of_ours())


def test_a_moment_of_any_zone_is_written_as_utc() -> None:
    read = manifest.parse(encoded(CONTRACT))
    moved = dataclasses.replace(
        read, created_at=read.created_at.astimezone(datetime.timezone(datetime.timedelta(hours=-5)))
    )
    assert manifest.render(moved) == manifest.render(read)


def test_rows_are_the_sum_of_the_tables() -> None:
    tables = [{"name": f"public.t{number}", "rows": number, "digest": "00"} for number in range(4)]
    assert manifest.parse(of_ours(tables=tables)).rows == 6
    assert manifest.parse(of_ours(tables=[])).rows == 0


def test_ten_thousand_tables() -> None:
    tables = tuple(manifest.Table(f'public."t{number}"', number, SHA256) for number in range(10_000))
    written = dataclasses.replace(manifest.parse(of_ours()), part=manifest.Postgresql(tables=tables))
    assert manifest.parse(manifest.render(written)) == written


KIB64 = 65536


@pytest.mark.parametrize(
    ("total", "size", "count"),
    [(0, KIB64, 0), (1, KIB64, 1), (KIB64, KIB64, 1), (KIB64 + 1, KIB64, 2), (2**40, 2**26, 2**14), (9, 2**26, 1)],
)
def test_there_is_a_hash_for_each_chunk(total: int, size: int, count: int) -> None:
    read = manifest.parse(of_ours(size=total, chunks={"size": size, "sha256": [SHA256] * count}))
    assert read.chunks == manifest.Chunks(size, (SHA256,) * count)
    for other in {max(count - 1, 0), count + 1, 2 * count + 1} - {count}:
        with pytest.raises(errors.ManifestError, match="the manifest's chunks are not the"):
            manifest.parse(of_ours(size=total, chunks={"size": size, "sha256": [SHA256] * other}))


@pytest.mark.parametrize(
    "chunks",
    [
        *([], "x", 1, True, {}, {"size": KIB64}, {"sha256": [SHA256] * 2}),
        *({"size": KIB64, "sha256": value} for value in (None, SHA256, {"0": SHA256, "1": SHA256}, 2)),
        *(
            {"size": KIB64, "sha256": [SHA256, value]}
            for value in (None, 1, "", [SHA256], SHA256.upper(), SHA256[1:], SHA256 + "0", SHA256 + "\n", "\ud800" * 64)
        ),
        *(
            {"size": size, "sha256": [SHA256] * 2}
            for size in (None, 0, 1, -KIB64, KIB64 - 1, 2**26 + 1, 2**63, 1e5, float(KIB64), True, str(KIB64))
        ),
        # As many as a size of 0, 1 or 2^26 + 1 would need.
        *({"size": size, "sha256": [SHA256] * count} for size, count in ((0, 0), (1, 100_000), (2**26 + 1, 1))),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_chunks_that_prove_nothing(chunks: object) -> None:
    with pytest.raises(errors.ManifestError, match="the manifest's chunks "):
        manifest.parse(of_ours(size=100_000, chunks=chunks))


def test_chunks_need_the_objects_size() -> None:
    chunks = {"size": KIB64, "sha256": [SHA256]}
    with pytest.raises(errors.ManifestError, match="the manifest's chunks are not an object beside a size"):
        manifest.parse(of_ours(chunks=chunks))
    data = of_ours(size=1, chunks=chunks).replace(b"65536", b"NaN")
    with pytest.raises(errors.ManifestError, match="NaN"):
        manifest.parse(data)
    data = of_ours(size=1, chunks=chunks).replace(b'"size": 65536', b'"size": 65536, "size": 65537')
    with pytest.raises(errors.ManifestError, match="'size' occurs twice"):
        manifest.parse(data)


def test_version_1_has_no_chunks() -> None:
    """A reader of that version passes over them, so they can't have been meant."""
    read = manifest.parse(of_ours(schema_version=1, size=1, chunks={"size": KIB64, "sha256": [SHA256]}))
    assert (read.schema_version, read.size, read.chunks) == (1, 1, None)


def test_the_digest_is_plain_sha256_of_the_bytes() -> None:
    assert manifest.digest(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"{", "not JSON"),
        (encoded(CONTRACT)[:-5], "not JSON"),
        (b"<html>503</html>", "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (encoded(CONTRACT)[:-1] + b', "key": "db/other/x.sql"}', "'key' occurs twice"),
        (encoded(CONTRACT)[:-1] + b', "x": {"y": 1, "y": 2}}', "'y' occurs twice"),
        (encoded(CONTRACT)[:-1] + b', "size": NaN}', "NaN"),
        (encoded(CONTRACT)[:-1] + b', "size": -Infinity}', "Infinity"),
        (encoded(CONTRACT)[:-1] + b', "size": ' + b"9" * 5000 + b"}", "too many digits"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bytes_that_are_no_manifest(data: bytes, reason: str) -> None:
    with pytest.raises(errors.ManifestError, match=reason) as caught:
        manifest.parse(data)
    assert caught.value.hint


def test_a_manifest_has_a_limit() -> None:
    padding = manifest.MAX_BYTES - len(encoded(CONTRACT))
    assert manifest.parse(encoded(CONTRACT) + b" " * padding).sha256 == SHA256
    with pytest.raises(errors.ManifestError, match="longer than"):
        manifest.parse(encoded(CONTRACT) + b" " * (padding + 1))


# Memory -------------------------------------------------------------------------------------------------------------


def _large(name: str, rows: int, *, count: int = 100_000) -> bytes:
    """A manifest with *count* tables of that name, as 0.1 wrote it."""
    head = f'{{"created_at":"2026-11-21T03:20:07Z","key":"x.sql","schema_version":1,"sha256":"{SHA256}","tables":['
    quoted = json.dumps(name)[1:-1]
    return (
        head.encode()
        + b",".join(
            b'{"digest":"%s","name":"%s","rows":%d}' % (SHA256.encode(), quoted.encode(), rows) for _n in range(count)
        )
        + b"]}"
    )


@pytest.mark.parametrize(
    "name",
    ["public.t", '"' + "s" * 63 + '"."' + "t" * 63 + '"', ".".join(['"' + '""' * 63 + '"'] * 2), "{[,:" * 15],
    ids=["short", "long", "quotes", "punctuation"],
)
def test_100_000_tables_are_read(name: str) -> None:
    read = manifest.parse(_large(name, 2**63 - 1))
    assert read.tables is not None and len(read.tables) == 100_000
    assert read.tables[-1] == manifest.Table(name, 2**63 - 1, SHA256)


@pytest.mark.parametrize(
    ("estimated", "size"), [(0, 8), (700 * 2**30, 8), (900 * 2**30, 16), (2 * 2**40, 32), (5 * 2**40, 64), (2**60, 64)]
)
def test_large_objects_have_larger_chunks(estimated: int, size: int) -> None:
    assert manifest.chunk_size(estimated) == size * 2**20


@pytest.mark.parametrize("name", ["public.t", '"' + "s" * 63 + '"."' + "t" * 63 + '"'])
def test_the_largest_object_and_100_000_tables_are_read(name: str) -> None:
    """5 TiB, the most that S3 keeps as one object."""
    size = 5 * 2**40
    chunk_size = manifest.chunk_size(size)
    hashes = b'"%s",' % SHA256.encode() * (size // chunk_size - 1) + b'"%s"' % SHA256.encode()
    chunks = b'{"chunks":{"sha256":[%s],"size":%d},"size":%d,' % (hashes, chunk_size, size)
    tables = _large(name, 10**9).replace(b'"schema_version":1', b'"schema_version":2,"source":"postgresql"')
    data = chunks + tables.replace(b'"tables":', b'"postgresql":{"tables":')[1:] + b"}"
    read = manifest.parse(data)
    assert read.chunks is not None and read.tables is not None
    assert (len(read.chunks.sha256), len(read.tables)) == (81_920, 100_000)


#: What fills 64 MiB with as much as is let in, or would: a beginning, an item that is repeated, how often.
HOSTILE = {
    "objects": (b'"x":[', b"{},", 10**9),
    "texts": (b'"x":[', b'"",', 10**9),
    "fields": (b'"x":{', b'"%d":0.5,', 10**9),
    "texts that end in escapes": (b'"x":[', b'"\\\\","\\"",', 10**9),
    "as many objects as may be": (b'"x":[', b"{},", manifest.MAX_ITEMS // 2 - 100),
    "as many fields as may be": (b'"x":[', b'{"%d":0.5},', manifest.MAX_FIELDS - 100),
    "as many names as may be": (b'"x":{', b'"%d":0.5,', manifest.MAX_FIELDS - 100),
    "tables": (
        b'"source":"postgresql","postgresql":{"tables":[',
        b'{"digest":"d","name":"\xf0\x9f\x98\x80%d","rows":1000000000},',
        manifest.MAX_FIELDS // 3 - 100,
    ),
    "tables with wide names": (
        b'"source":"postgresql","postgresql":{"tables":[',
        b'{"digest":"d","name":"\xf0\x9f\x98\x80' + b"n" * 260 + b'%d","rows":1000000000},',
        manifest.MAX_FIELDS // 3 - 100,
    ),
}


@pytest.mark.parametrize("which", HOSTILE)
def test_the_memory_that_a_manifest_takes_is_bounded(which: str) -> None:
    """In an interpreter of its own: the peak of reading 64 MiB, and of the text that its signature is of.

    What the items leave of the 64 MiB is one text with one wide character, for which each of its characters takes four
    bytes, first in the text as a whole and again on its own.  That alone is eight times the size.
    """
    begin, item, count = HOSTILE[which]
    script = textwrap.dedent(
        """
        import ast, sys
        sys.path[:0] = sys.argv[4].split(":")
        from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
        from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest

        begin, item, count = ast.literal_eval(sys.argv[1]), ast.literal_eval(sys.argv[2]), int(sys.argv[3])
        head = b'{"created_at":"2026-11-21T03:20:07Z","key":"x.sql","schema_version":2,"sha256":"' + b"0" * 64 + b'",'
        data = bytearray(head + begin)
        most = manifest.MAX_BYTES - len(data) - 200
        if b"%" in item:
            data += b"".join(item % number for number in range(min(count, most // (len(item) + 5))))
        else:
            data += item * min(count, most // len(item))
        data[-1:] = b"}" if begin.endswith(b"{") else b"]}" if b'":{' in begin else b"]"
        data += b',"z":"' + "\N{GRINNING FACE}".encode()
        data += b"z" * (manifest.MAX_BYTES - len(data) - 2) + b'"}'
        data = bytes(data)
        assert len(data) == manifest.MAX_BYTES

        def status(name):
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

        open("/proc/self/clear_refs", "w").write("5")
        before = status("VmRSS")
        said = "accepted"
        try:
            read = manifest.parse(data)
            manifest.signed_text(data)
        except errors.ManifestError as exc:
            said = exc.message
        print((status("VmHWM") - before) * 1024, said)
        """
    )
    argv = [sys.executable, "-c", script, repr(begin), repr(item), str(count), ":".join(sys.path)]
    peak, said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split(" ", 1)
    if "may be" in which or which.startswith("tables"):
        assert said.strip() == "accepted"
        assert int(peak) < 15 * manifest.MAX_BYTES
    else:
        assert "more than" in said
        assert int(peak) < 3 * manifest.MAX_BYTES


@pytest.mark.parametrize("field", CONTRACT)
@pytest.mark.parametrize("value", [None, "", 1, ["x"], {"x": 1}, True, " ", "\ud800"])
def test_each_of_the_oldest_three_fields_is_required_and_validated(field: str, value: object) -> None:
    for fields in ({**CONTRACT, field: value}, {name: CONTRACT[name] for name in CONTRACT if name != field}):
        if field == "key" and value == " " and field in fields:
            continue  # a strange key, but a key
        with pytest.raises(errors.ManifestError, match=f"the manifest's {field} "):
            manifest.parse(encoded(fields))


@pytest.mark.parametrize(
    "key",
    [
        "/db/app/x.sql",
        "db/../other/x.sql",
        "../../etc/passwd",
        "s3://other/../x.sql",
        "s3://../x.sql",
        "https://example.com/x.sql",
        "db/app/",
        "db/app/latest-dump.json",
        "db/app/20261121T032007Z.manifest.json",
        "db/app/x.sql\n",
        "db/app/\0",
        "x" * 1025,
    ],
)
def test_keys_that_name_no_dump(key: str) -> None:
    with pytest.raises(errors.ManifestError, match=r"the manifest's key (names a manifest|does not name)"):
        manifest.parse(encoded({**CONTRACT, "key": key}))


@pytest.mark.parametrize("sha256", [SHA256.upper(), SHA256[:-1], SHA256 + "0", SHA256 + "\n", "g" * 64, f" {SHA256}"])
@pytest.mark.parametrize("field", ["sha256", "plaintext_sha256", "previous_sha256"])
def test_hashes_are_lower_case_hex(field: str, sha256: str) -> None:
    with pytest.raises(errors.ManifestError, match=f"the manifest's {field} is not a SHA-256"):
        manifest.parse(of_ours(**{field: sha256}))


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-21 03:20:07",
        "2026-11-21T03:20:07+00:00",
        "2026-11-21T03:20:07.5Z",
        "2026-13-21T03:20:07Z",
        "2026-02-30T03:20:07Z",
        "2026-11-21T03:20:61Z",
        "20261121T032007Z",
        "2026-11-21T03:20:07Z\n",
    ],
)
def test_moments_have_one_form(moment: str) -> None:
    with pytest.raises(errors.ManifestError, match="the manifest's created_at is not of the form"):
        manifest.parse(encoded({**CONTRACT, "created_at": moment}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema_version", -1),
        ("schema_version", "1"),
        ("schema_version", True),
        ("size", 1.0),
        ("size", -1),
        ("size", 2**63),
        ("size", False),
        ("sequence", "7"),
        ("duration_seconds", -0.5),
        ("duration_seconds", "1"),
        ("duration_seconds", True),
        ("duration_seconds", 10**400),
        ("host", 1),
        ("host", "\ud800"),
        ("database", ["app"]),
        ("recipients", "age1"),
        ("recipients", [1]),
        ("destination", "s3"),
        ("postgresql", "app"),
        ("postgresql", []),
        ("source", 1),
        ("roles", "app"),
        ("roles", [1]),
        ("roles", ["\udfff"]),
        ("extensions", {}),
        ("extensions", ["citext"]),
        ("tables", [[]]),
    ],
)
def test_fields_of_ours_are_validated(field: str, value: object) -> None:
    name = f"postgresql.{field}" if field in PART else field
    with pytest.raises(errors.ManifestError, match=f"the manifest's {name} "):
        manifest.parse(of_ours(**{field: value}))


def test_a_number_beyond_every_float_is_refused() -> None:
    data = of_ours(duration_seconds=0).replace(b'"duration_seconds": 0', b'"duration_seconds": 1e999')
    with pytest.raises(errors.ManifestError, match="duration_seconds"):
        manifest.parse(data)


@pytest.mark.parametrize(
    ("field", "item"),
    [
        ("extensions", {"name": "citext"}),
        ("extensions", {"version": "1.6"}),
        ("extensions", {"name": "", "version": "1.6"}),
        ("tables", {"rows": 1, "digest": "00"}),
        ("tables", {"name": "t", "digest": "00"}),
        ("tables", {"name": "t", "rows": 1}),
        ("tables", {"name": "t", "rows": None, "digest": "00"}),
        ("tables", {"name": "t", "rows": "1", "digest": "00"}),
        ("tables", {"name": "t", "rows": -1, "digest": "00"}),
    ],
)
def test_items_need_all_their_fields(field: str, item: dict[str, t.Any]) -> None:
    with pytest.raises(errors.ManifestError, match=r"is missing|is not a "):
        manifest.parse(of_ours(**{field: [item]}))


def test_a_newer_version_says_what_to_do_before_anything_else() -> None:
    with pytest.raises(errors.ManifestError, match=r"needs a newer version of infrazero\.database") as caught:
        manifest.parse(encoded({"schema_version": 3}))
    assert "version 3" in caught.value.message and "up to 2" in caught.value.cause and "update" in caught.value.hint


@given(st.binary())
def test_arbitrary_bytes_are_a_manifest_error(data: bytes) -> None:
    with pytest.raises(errors.ManifestError):
        manifest.parse(data)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.booleans())
def test_arbitrary_fields_are_a_manifest_that_can_be_written_or_an_error(fields: dict[str, t.Any], ours: bool) -> None:
    data = encoded({**CONTRACT, **({"schema_version": 1} if ours else {}), **fields})
    try:
        read = manifest.parse(data)
    except errors.ManifestError as error:
        str(error).encode("utf-8")
        return
    if read.schema_version is not None:
        read = dataclasses.replace(read, schema_version=2)
    assert manifest.parse(manifest.render(read)) == read


@given(MANIFESTS, st.data())
def test_a_damaged_manifest_is_a_manifest_or_an_error(written: manifest.Manifest, data: st.DataObject) -> None:
    damaged = bytearray(manifest.render(written))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(errors.ManifestError):
        manifest.parse(bytes(damaged))


@given(MANIFESTS, st.data())
def test_a_cut_manifest_is_an_error(written: manifest.Manifest, data: st.DataObject) -> None:
    whole = manifest.render(written)
    with pytest.raises(errors.ManifestError):
        manifest.parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


# Rekeyed backups ------------------------------------------------------------------------------------------------------

NOW = datetime.datetime(2026, 12, 1, 4, 0, 0, 5, tzinfo=datetime.timezone.utc)
#: What differs once a backup is encrypted anew.
CHANGES = {"key": "db/app/20261121T032007Z.rekeyed-20261201T040000Z.sql.gz.age", "sha256": "f" * 64, "host": "office"}


def rekeyed(data: bytes, **changes: t.Any) -> manifest.Manifest:
    return manifest.rekeyed(data, at=NOW, recipients=("age1new",), changes={**CHANGES, **changes})


@given(MANIFESTS)
def test_a_rekeyed_manifest_holds_the_one_before(written: manifest.Manifest) -> None:
    data = manifest.render(written)
    after = manifest.render(rekeyed(data))
    read = manifest.parse(after)
    assert manifest.earlier(after) == data
    assert manifest.agree(read, written)
    assert (read.key, read.sha256, read.recipients, read.signature) == (CHANGES["key"], "f" * 64, ("age1new",), None)
    assert read.stands_for == (manifest.digest(data), *written.stands_for)
    assert read.rekeyed is not None and read.rekeyed.at == NOW.replace(microsecond=0)


def test_a_manifest_that_is_rekeyed_again_holds_both() -> None:
    first = GOLDEN
    second = manifest.render(dataclasses.replace(rekeyed(first), signature="of office"))
    third = manifest.render(rekeyed(second, host="cellar"))
    assert manifest.earlier(third) == second and manifest.earlier(second) == first
    assert manifest.parse(third).stands_for == (manifest.digest(second), manifest.digest(first))
    # What has not changed is there once.
    assert third.count(b'"public.one"') == 2, "version 1 had the tables in another place"
    assert manifest.render(rekeyed(third)).count(b'"public.one"') == 2


def test_unknown_fields_and_other_forms_come_back() -> None:
    before = encoded({**CONTRACT, "later": [1, {"b": 2.5}], "recipients": "of another tool"})
    after = json.loads(manifest.earlier(manifest.render(rekeyed(before))))
    assert after == json.loads(before)


def test_a_signed_manifest_that_could_not_be_verified_any_more_is_refused() -> None:
    before = of_ours(signature="of db1", later=None)
    with pytest.raises(errors.ManifestError, match="embedded"):
        rekeyed(before)


def test_jq_shows_the_manifest_before() -> None:
    data = manifest.render(rekeyed(GOLDEN))
    program = "(del(.rekeyed) + .rekeyed.manifest) | with_entries(select(.value != null))"
    jq = ["jq", "--compact-output", "--join-output", "--sort-keys", program]
    assert subprocess.run(jq, input=data, stdout=subprocess.PIPE, check=True).stdout == GOLDEN


@pytest.mark.parametrize("strange", [b'{"x":1e999}', b'"\\ud800"'])
def test_what_has_no_canonical_form_is_not_embedded(strange: bytes) -> None:
    plain = encoded(CONTRACT)
    data = plain[:-1] + b',"later":' + strange + b"}"
    assert manifest.parse(data) == manifest.parse(plain)
    with pytest.raises(errors.ManifestError, match="embedded"):
        rekeyed(data)
    inner = b'{"at":"2026-12-01T04:00:00Z","sha256":"%s","manifest":{"later":%s}}' % (SHA256.encode(), strange)
    with pytest.raises(errors.ManifestError, match="brought into its canonical form"):
        manifest.parse(of_ours()[:-1] + b',"rekeyed":' + inner + b"}")


@pytest.mark.parametrize(
    "value", [[], "x", {}, {"at": "2026-12-01T04:00:00Z", "sha256": SHA256, "manifest": []}, {"manifest": {}}]
)
def test_a_rekeyed_field_of_another_form_is_refused(value: t.Any) -> None:
    with pytest.raises(errors.ManifestError, match="rekeyed"):
        manifest.parse(of_ours(rekeyed=value))


def test_what_is_embedded_is_bounded_and_never_followed_for_ever() -> None:
    inner: t.Any = {"sha256": SHA256, "at": "2026-12-01T04:00:00Z", "manifest": {"rekeyed": 7}}
    for _level in range(100):
        inner = {"sha256": SHA256, "at": "2026-12-01T04:00:00Z", "manifest": {"rekeyed": inner}}
    assert len(manifest.parse(of_ours(rekeyed=inner)).stands_for) == 101
    with pytest.raises(errors.ManifestError, match="more than"):
        manifest.parse(of_ours(rekeyed={**inner, "manifest": dict.fromkeys(map(str, range(600_000)), 1)}))


def test_manifests_that_disagree() -> None:
    before = manifest.parse(GOLDEN)
    for name, value in {"sequence": 8, "plaintext_size": 1, "kind": "globals", "previous_sha256": None}.items():
        assert not manifest.agree(before, dataclasses.replace(before, **{name: value})), name
