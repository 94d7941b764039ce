# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import contextlib
import json
import re
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import databases, listfields
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from hypothesis import given
from hypothesis import strategies as st

PASSWORD = "canary-of-a-password"
IDENTITY = "AGE-SECRET-KEY-1CANARYOFAPRIVATEKEY"


class Rules:
    """Keys without cryptography: ``age1x`` is the recipient of ``AGE-SECRET-KEY-1X``."""

    def recipient_fault(self, text: str) -> str | None:
        return None if text.strip().startswith("age1") else "is no age recipient"

    def mix_fault(self, recipients: t.Sequence[str]) -> str | None:
        alone = [text for text in recipients if text.startswith("age1alone")]
        return "can't be used together" if alone and len(recipients) > 1 else None

    def identity_fault(self, secret: Secret) -> str | None:
        return None if secret.reveal().startswith("AGE-SECRET-KEY-1") else "is no age private key"

    def pair_fault(self, recipients: t.Sequence[str], secret: Secret) -> str | None:
        own = "age1" + secret.reveal()[len("AGE-SECRET-KEY-1") :].lower()
        return None if own in recipients else "does not open what is encrypted to backup_age_public_key"


def entry(**changes: t.Any) -> dict[str, t.Any]:
    """A valid entry with *changes*; a field given as ``...`` is taken out."""
    fields = {
        "name": "app",
        "user": "app_user",
        "password": PASSWORD,
        "backup_age_public_key": "age1canaryofaprivatekey",
        "backup_age_private_key": IDENTITY,
        "restore_latest": True,
        "restore_dump_path": None,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def parse(source: object, *, private: bool = True, **options: t.Any) -> databases.Databases:
    return databases.parse(source, rules=Rules(), private=private, **options)


def faults(source: object, **options: t.Any) -> list[tuple[str, str, str]]:
    with pytest.raises(databases.InvalidDatabases) as caught:
        parse(source, **options)
    for text in (str(caught.value), repr(caught.value), json.dumps(caught.value.as_dict())):
        assert PASSWORD not in text
        assert IDENTITY not in text
        text.encode("utf-8")
    return [(fault.entry, fault.field, fault.reason) for fault in caught.value.faults]


def reason(source: object, **options: t.Any) -> str:
    """The one fault of a list."""
    ((_entry, _field, text),) = faults(source, **options)
    return text


# What is valid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [list, tuple, json.dumps, lambda items: json.dumps(items).encode()])
def test_the_list_may_be_data_or_json(encode: t.Callable[[list[t.Any]], object]) -> None:
    (database,) = parse(encode([entry()])).entries
    assert database == databases.Database(
        name="app",
        user="app_user",
        password=Secret(PASSWORD),
        recipients=("age1canaryofaprivatekey",),
        identity=Secret(IDENTITY),
        restore_latest=True,
        restore_dump_path=None,
    )


def test_only_four_fields_are_required() -> None:
    required = ("name", "user", "password", "backup_age_public_key")
    (database,) = parse([{name: value for name, value in entry().items() if name in required}]).entries
    assert database.restore_latest
    assert database.restore_dump_path is None
    assert database.identity is None


def test_null_is_the_default() -> None:
    nothing = entry(backup_age_private_key=None, restore_latest=None, restore_dump_path=None)
    assert parse([nothing]).entries == parse([entry(backup_age_private_key=..., restore_latest=...)]).entries
    assert parse([nothing]).entries[0].restore_latest is True


def test_recipients_may_be_a_list_for_escrow() -> None:
    (database,) = parse([entry(backup_age_public_key=["age1escrow", " age1canaryofaprivatekey\n"])]).entries
    assert database.recipients == ("age1escrow", "age1canaryofaprivatekey")


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "App",
        "x" * 63,
        "é" * 31 + "x",
        "日" * 21,
        "'; DROP DATABASE app; --",
        '"quoted"',
        "$(id)`id`",
        "-x",
        "%s=%d",
        "..-..",
        "{{ lookup }}".replace(" ", ""),
        "e\u0301",
        "\u202eppa",
        "all",
        "replication",
        "none",
        "pg_app",
    ],
)
def test_any_name_without_whitespace_and_slash_is_a_name(name: str) -> None:
    name = re.sub(r"\s", "", name)
    assert parse([entry(name=name)]).entries[0].name == name


def test_names_differ_by_every_byte() -> None:
    names = ["app", "App", "APP", "\u00e9", "e\u0301"]
    assert [database.name for database in parse([entry(name=name) for name in names]).entries] == names


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_characters_are_a_password(password: str) -> None:
    (database,) = parse([entry(password=password)]).entries
    assert database.password.reveal() == password


def test_the_last_password_of_a_user_wins() -> None:
    parsed = parse([entry(name=name, password=name) for name in ("one", "two", "three")] + [entry(name="x", user="y")])
    assert parsed.passwords() == {"app_user": Secret("three"), "y": Secret(PASSWORD)}
    assert [database.name for database in parsed.entries] == ["one", "two", "three", "x"]


@pytest.mark.parametrize(
    "path", ["", "db/app/", "db/app/latest-dump.json", "db/app/x.sql.gz.age", "s3://other/x.sql", "httpd/x.sql"]
)
def test_dump_paths(path: str) -> None:
    parsed = parse([entry(restore_latest=False, restore_dump_path=path)])
    assert parsed.entries[0].restore_dump_path == path
    assert parsed.warnings == ()


@pytest.mark.parametrize("latest", [True, None, ...])
def test_a_dump_path_beside_restore_latest_is_warned_of(latest: object) -> None:
    warnings = parse([entry(restore_latest=latest, restore_dump_path="db/app/")]).warnings
    assert warnings == ("entry 1 (app): restore_dump_path is ignored because restore_latest is true",)


def test_unknown_fields_are_warned_of() -> None:
    (warning,) = parse([entry(**{"later": 1, "\ud800\n": 2})]).warnings
    assert warning == "entry 1 (app): unknown fields are ignored: '\\ud800\\n', 'later'"


def test_a_misspelt_field_is_an_error_that_names_the_right_one_and_the_only_one_about_it() -> None:
    item = entry(restore_lates=False)
    item["backup_age_publickey"] = item.pop("backup_age_public_key")
    with pytest.raises(databases.InvalidDatabases) as caught:
        parse([item])
    assert [str(fault) for fault in caught.value.faults] == [
        "entry 1 (app): restore_lates is not an option; did you mean restore_latest?",
        "entry 1 (app): backup_age_publickey is not an option; did you mean backup_age_public_key?",
    ]


def test_the_error_calls_the_list_as_the_user_does() -> None:
    for function in (databases.private_view, databases.public_view, parse):
        with pytest.raises(databases.InvalidDatabases, match="configuration: infrazero_databases has 1 error: "):
            function([1], name="infrazero_databases")
    with pytest.raises(databases.InvalidDatabases, match="databases_json has 1 error: "):
        databases.private_view([])


def test_a_database_is_found_by_name() -> None:
    parsed = parse([entry(), entry(name="other")])
    assert parsed.named("other").name == "other"
    with pytest.raises(errors.ConfigurationError, match="database 'x' is not in the databases list") as caught:
        parsed.named("x")
    assert caught.value.cause == "the list has 'app', 'other'"
    with pytest.raises(errors.ConfigurationError, match="did you mean 'other'"):
        parsed.named("ohter")


def test_ten_thousand_entries() -> None:
    source = json.dumps([entry(name=f"db{number}") for number in range(10_000)])
    assert len(parse(source).entries) == 10_000
    doubled = json.dumps([entry(name=f"db{number // 2}") for number in range(10_000)])
    assert len(faults(doubled)) == 5_000


# Every rule broken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ([], "is empty"),
        ("[]", "is empty"),
        ({}, "is an object"),
        ("{}", "is an object"),
        (None, "is null"),
        ("null", "is null"),
        ("7", "is a number"),
        ('"x"', "is a string"),
        (True, "is true or false"),
        ({1, 2}, "is not JSON"),
        ("", "is not valid JSON: Expecting value at line 1, column 1"),
        ("not JSON", "is not valid JSON: Expecting value at line 1, column 1"),
        ('[{"name": "a"},]', "is not valid JSON: "),
        ('[{"name": "a", "name": "b"}]', "is not valid JSON: the field 'name' occurs twice in one object"),
        ('[{"name": NaN}]', "is not valid JSON: NaN is not a JSON number"),
        (b"\xff", "is not valid JSON: it is not valid UTF-8"),
        ("[" * 100_000, "is not valid JSON: it is nested too deeply"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_list(source: object, text: str) -> None:
    ((where, field, found),) = faults(source)
    assert (where, field) == ("list", "")
    assert found.startswith(text)


@pytest.mark.parametrize(
    ("item", "text"),
    [(None, "is null"), ("app", "is a string"), (1, "is a number"), (False, "is true or false"), ([], "is a list")],
)
def test_an_entry_is_an_object(item: object, text: str) -> None:
    assert faults([entry(), item]) == [("entry 2", "", text)]


@pytest.mark.parametrize("field", ["name", "user", "password", "backup_age_public_key"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (..., "is missing"),
        (None, "is missing"),
        ("", "is empty"),
        (1, "is a number"),
        (1.5, "is a number"),
        (True, "is true or false"),
        ({"x": 1}, "is an object"),
    ],
)
def test_required_texts(field: str, value: object, text: str) -> None:
    ((where, found_field, found),) = faults([entry(**{field: value})])
    assert where == ("entry 1" if field == "name" else "entry 1 (app)")
    assert (found_field, found) == (field, text)


@pytest.mark.parametrize("field", ["name", "user"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 64, "is 64 bytes long"),
        ("é" * 32, "is 64 bytes long"),
        ("日" * 22, "is 66 bytes long"),
        ("a b", "contains whitespace"),
        (" a", "contains whitespace"),
        ("a\n", "contains whitespace"),
        ("a\tb", "contains whitespace"),
        ("a\u00a0b", "contains whitespace"),
        ("a\u2003b", "contains whitespace"),
        ("a/b", "contains '/' or NUL"),
        ("../x", "contains '/' or NUL"),
        ("a\0b", "contains '/' or NUL"),
        ("\ud800", "is not valid Unicode"),
        (["a"], "is a list"),
        ("..", "is '..', which is not a valid name in an object store"),
        (".", "is '.', which is not a valid name in an object store"),
    ],
)
def test_identifiers(field: str, value: object, text: str) -> None:
    assert reason([entry(**{field: value})]) == text


@pytest.mark.parametrize("name", ["postgres", "template0", "template1"])
def test_template_and_maintenance_databases(name: str) -> None:
    assert reason([entry(name=name)]) == f"{name!r} is a template or maintenance database"


def test_the_maintenance_database_is_the_connections() -> None:
    assert "maintenance" in reason([entry(name="defaultdb")], maintenance_database="defaultdb")
    assert parse([entry(name="defaultdb")]).entries


@pytest.mark.parametrize("user", ["public", "none", "pg_monitor", "pg_x"])
def test_users_that_postgresql_reserves(user: str) -> None:
    assert reason([entry(user=user)]) == f"{user!r} is reserved by PostgreSQL"
    assert parse([entry(user=user.upper())]).entries


def test_a_name_stands_once_and_the_first_is_named() -> None:
    assert faults([entry(), entry(name="b"), entry(), entry()]) == [
        ("entry 3 (app)", "name", "'app' is already the name of entry 1"),
        ("entry 4 (app)", "name", "'app' is already the name of entry 1"),
    ]


@pytest.mark.parametrize("password", ["a\0b", "\udfff"])
def test_passwords_that_postgresql_cannot_take(password: str) -> None:
    assert reason([entry(password=password)]) == "contains NUL or is not valid Unicode"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([], ["is an empty list"]),
        ("rsa", ["is no age recipient"]),
        (IDENTITY, ["contains a private key"]),
        (["age1a", IDENTITY.lower()], ["contains a private key"]),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", ["contains a private key"]),
        (["age1a", 7, "x", None], ["item 2 is a number", "item 3 is no age recipient", "item 4 is null"]),
        ([["age1a"]], ["is a list"]),
        ([""], ["is no age recipient"]),
    ],
)
def test_recipients(value: object, found: list[str]) -> None:
    expected = [("entry 1 (app)", "backup_age_public_key", text) for text in found]
    assert faults([entry(backup_age_public_key=value, backup_age_private_key=...)]) == expected


def test_recipients_that_do_not_go_together() -> None:
    assert parse([entry(backup_age_public_key=["age1alone"], backup_age_private_key=...)]).entries
    assert reason([entry(backup_age_public_key=["age1alone", "age1b"])]) == "can't be used together"


def test_a_pair_is_not_judged_where_a_recipient_has_a_fault() -> None:
    assert reason([entry(backup_age_public_key=["mistyped", "age1escrow"])]) == "item 1 is no age recipient"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "is empty"),
        (1, "is a number"),
        ([IDENTITY], "is a list"),
        ("age1public", "is no age private key"),
        ("AGE-SECRET-KEY-1OTHER", "does not open what is encrypted to backup_age_public_key"),
    ],
)
def test_identities(value: object, text: str) -> None:
    ((_where, field, found),) = faults([entry(backup_age_private_key=value)])
    assert (field, found) == ("backup_age_private_key", text)


def test_a_host_keeps_no_private_key() -> None:
    for value in (IDENTITY, "", 7):
        assert reason([entry(backup_age_private_key=value)], private=False) == "must not be present here"
    assert parse([entry(backup_age_private_key=None)], private=False).entries
    assert parse([entry(backup_age_private_key=...)], private=False).entries


@pytest.mark.parametrize("value", ["true", 1, 0, [], {}])
def test_flags_are_booleans(value: object) -> None:
    ((_where, field, _found),) = faults([entry(restore_latest=value)])
    assert field == "restore_latest"


@pytest.mark.parametrize("latest", [True, False])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "is a number"),
        (["db/app/"], "is a list"),
        ("/db/app/", "begins with '/'"),
        ("http://example.com/x", "is an HTTP URL"),
        ("HTTPS://example.com/x", "is an HTTP URL"),
        ("db/my app/", "contains whitespace or NUL, or is not valid Unicode"),
        ("db/\ud800/", "contains whitespace or NUL, or is not valid Unicode"),
        ("db/\0/", "contains whitespace or NUL, or is not valid Unicode"),
    ],
)
def test_dump_paths_that_are_refused(value: object, text: str, latest: bool) -> None:
    assert reason([entry(restore_latest=latest, restore_dump_path=value)]) == text


@pytest.mark.parametrize("path", ["s3://bucket", "ftp://host/x", "db/../x", "s3://../x", "x" * 1025])
def test_a_dump_path_that_no_store_has_is_found_before_the_restore_begins(path: str) -> None:
    ((_where, field, _found),) = faults([entry(restore_latest=False, restore_dump_path=path)])
    assert field == "restore_dump_path"
    # It is ignored with restore_latest, so it need not be valid.
    assert parse([entry(restore_latest=True, restore_dump_path=path)]).entries


def test_backups_lie_under_the_name_or_where_the_entry_says() -> None:
    listed = parse([entry(), entry(name="vault", backup_prefix="vault/")])
    assert [e.prefix for e in listed.entries] == ["db/app/", "vault/"]
    assert databases.public_view([entry(backup_prefix="vault/")])[0]["backup_prefix"] == "vault/"


@pytest.mark.parametrize(
    "prefix",
    ["", "vault", "/vault/", "s3://other/vault/", "a//b/", "a/../b/", "./", "a b/", "a\0/", 1, "x" * 2000 + "/"],
)
def test_no_prefix(prefix: t.Any) -> None:
    ((_where, field, _found),) = faults([entry(backup_prefix=prefix)])
    assert field == "backup_prefix"


def test_hosts_whose_backups_are_accepted_too() -> None:
    listed = parse([entry(), entry(name="staging", backup_signers=["db1", "db1.example.com"])])
    assert [e.backup_signers for e in listed.entries] == [(), ("db1", "db1.example.com")]
    assert parse([entry(backup_signers=None)]).entries[0].backup_signers == ()
    assert databases.public_view([entry(backup_signers=["db1"])])[0]["backup_signers"] == ["db1"]


@pytest.mark.parametrize("signers", ["db1", 1, True, {"db1": 1}, [1], [None], ["db1", "*"], ["a,b"], ["a\n"], ["!a"]])
def test_no_hosts_that_sign(signers: t.Any) -> None:
    ((_where, field, reason),) = faults([entry(backup_signers=signers)])
    assert field == "backup_signers"
    assert "*" not in reason and "a,b" not in reason


@pytest.mark.parametrize("prefix", ["db/app/", "db/", "db/app/deeper/"])
def test_backups_of_two_databases_lie_apart(prefix: str) -> None:
    found = faults([entry(), entry(name="other", backup_prefix=prefix)])
    assert [field for _where, field, _reason in found] == ["backup_prefix"]


def test_every_fault_is_reported_at_once() -> None:
    broken = [entry(name="a b", password=""), "x", entry(user=None, backup_age_public_key="x", restore_latest=1)]
    found = faults(json.dumps(broken))
    assert [(where, field) for where, field, _reason in found] == [
        ("entry 1 (a b)", "name"),
        ("entry 1 (a b)", "password"),
        ("entry 2", ""),
        ("entry 3 (app)", "user"),
        ("entry 3 (app)", "backup_age_public_key"),
        ("entry 3 (app)", "restore_latest"),
    ]
    with pytest.raises(databases.InvalidDatabases, match="databases_json has 6 errors: ") as caught:
        parse(broken)
    assert len(caught.value.as_dict()["faults"]) == 6
    for fault in caught.value.faults:
        assert str(fault) in str(caught.value)
        assert fault.remedy


def test_a_key_in_the_field_of_the_name_is_not_repeated() -> None:
    key = "AGE-SECRET-KEY-1" + "Q" * 58
    with pytest.raises(databases.InvalidDatabases) as caught:
        parse([entry(name=key)])
    assert key not in str(caught.value)


# The public view ----------------------------------------------------------------------------------------------------


def test_the_public_view_has_no_private_key_and_is_otherwise_as_it_came() -> None:
    source = [entry(restore_latest=None), entry(name="b", restore_latest=..., backup_age_private_key=...)]
    view = databases.public_view(json.dumps(source))
    assert view == [
        {name: value for name, value in item.items() if name != "backup_age_private_key"} for item in source
    ]
    assert parse(view, private=False).entries
    assert source[0]["backup_age_private_key"] == IDENTITY


def test_the_public_view_leaves_out_unknown_fields() -> None:
    view = databases.public_view([{**entry(), "backup_age_privat_key": IDENTITY}])
    assert IDENTITY not in json.dumps(view)


@pytest.mark.parametrize("value", [IDENTITY, ["age1x", f"# mine\n{IDENTITY}"], "-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_the_public_view_is_not_made_where_a_private_key_stands_for_the_public_one(value: object) -> None:
    with pytest.raises(
        databases.InvalidDatabases, match=r"entry 1 \(app\), backup_age_public_key: contains a private key"
    ):
        databases.public_view([entry(backup_age_public_key=value)])


@pytest.mark.parametrize("view", [databases.public_view, databases.private_view])
@pytest.mark.parametrize("source", [[], "x", "", "!", {}, "{}", "[1]", [entry(), IDENTITY]])
def test_a_view_of_what_is_no_list_of_objects(view: t.Callable[[object], object], source: object) -> None:
    with pytest.raises(databases.InvalidDatabases) as caught:
        view(source)
    assert IDENTITY not in str(caught.value)


# The private view ---------------------------------------------------------------------------------------------------


def test_the_private_view_reads_data_json_and_base64() -> None:
    source = [entry(), entry(name="b", restore_latest=..., backup_age_private_key=...)]
    text = json.dumps(source)
    encoded = base64.b64encode(text.encode()).decode()
    wrapped = "\n".join(encoded[position : position + 76] for position in range(0, len(encoded), 76)) + "\n"
    for form in (source, text, f"\n {text}", encoded, wrapped):
        assert databases.private_view(form) == source
    assert databases.private_view([{**entry(), "later": 1}]) == [entry()]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("not base64!", "is neither JSON nor base64"),
        ("abc", "is neither JSON nor base64"),
        ("ä", "is neither JSON nor base64"),
        (base64.b64encode(b"\xff").decode(), "is not valid JSON: it is not valid UTF-8"),
        (base64.b64encode(b"[]").decode(), "is empty"),
    ],
)
def test_what_is_no_private_view(source: str, text: str) -> None:
    with pytest.raises(databases.InvalidDatabases, match=text):
        databases.private_view(source)


# Properties ---------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=15).filter(
    lambda name: not re.search(r"\s", name) and name not in {".", "..", "public", "none"} and not name.startswith("pg_")
)
KEYS = st.from_regex(r"[a-z0-9]{3,10}", fullmatch=True)


@st.composite
def valid_entries(draw: st.DrawFn) -> dict[str, t.Any]:
    key = draw(KEYS)
    recipients = ["age1" + other for other in draw(st.lists(KEYS, max_size=2))] + ["age1" + key]
    fields: dict[str, t.Any] = {
        "name": draw(NAMES.filter(lambda name: name not in listfields.SYSTEM_DATABASES)),
        "user": draw(NAMES),
        "password": draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)),
        "backup_age_public_key": recipients if len(recipients) > 1 else recipients[0],
    }
    fields.update(
        draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "backup_age_private_key": st.none() | st.just("AGE-SECRET-KEY-1" + key.upper()),
                    "restore_latest": st.none() | st.booleans(),
                    "restore_dump_path": st.none() | st.sampled_from(["", "db/x/", "s3://b-1/x.sql"]),
                },
            )
        )
    )
    return fields


@given(st.lists(valid_entries(), min_size=1, max_size=6, unique_by=lambda item: item["name"]))
def test_valid_lists_are_read_as_they_stand(items: list[dict[str, t.Any]]) -> None:
    parsed = parse(json.dumps(items))
    assert parsed == parse(items)
    for item, database in zip(items, parsed.entries):
        recipients = item["backup_age_public_key"]
        private = item.get("backup_age_private_key")
        assert database == databases.Database(
            name=item["name"],
            user=item["user"],
            password=Secret(item["password"]),
            recipients=tuple(recipients) if isinstance(recipients, list) else (recipients,),
            identity=None if private is None else Secret(private),
            restore_latest=item.get("restore_latest") is not False,
            restore_dump_path=item.get("restore_dump_path"),
        )
    assert len(parsed.entries) == len(items)
    public = parse(databases.public_view(items), private=False)
    assert all(database.identity is None for database in public.entries)
    assert all("backup_age_private_key" not in entry for entry in databases.public_view(items))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(listfields.FIELDS) | st.text(max_size=5), inner, max_size=8)
    ),
    max_leaves=25,
)


@given(JSON | st.lists(st.dictionaries(st.sampled_from(listfields.FIELDS), JSON), max_size=3), st.booleans())
def test_arbitrary_json_is_valid_or_has_faults(source: t.Any, private: bool) -> None:
    for form in (source, json.dumps(source)):
        with contextlib.suppress(databases.InvalidDatabases):
            assert parse(form, private=private).entries
        with contextlib.suppress(databases.InvalidDatabases):
            assert not any("backup_age_private_key" in item for item in databases.public_view(form))


@given(st.binary() | st.text())
def test_arbitrary_text_has_faults(source: bytes | str) -> None:
    with pytest.raises(databases.InvalidDatabases):
        parse(source)


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": JSON | st.just("app"),
                "user": JSON,
                "password": st.sampled_from([PASSWORD, PASSWORD + "\0", [PASSWORD], {"x": PASSWORD}]),
                "backup_age_public_key": st.sampled_from(["age1x", IDENTITY, [IDENTITY], ["age1x", IDENTITY], 7]),
                "backup_age_private_key": st.sampled_from([IDENTITY, [IDENTITY], {IDENTITY: 1}, f" {IDENTITY}"]),
                "restore_latest": JSON,
                "restore_dump_path": JSON,
            },
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_no_secret_is_ever_shown(items: list[dict[str, t.Any]], private: bool) -> None:
    try:
        shown = repr(parse(items, private=private))
    except databases.InvalidDatabases as error:
        shown = f"{error} {error!r} {error.faults!r} {error.as_dict()}"
    shown.encode("utf-8")
    assert PASSWORD not in shown
    assert IDENTITY not in shown


FILES = {"/password": PASSWORD, "/key": IDENTITY}


def read_file(path: str) -> str:
    if path not in FILES:
        raise errors.ConfigurationError("the file cannot be read", cause="No such file", hint="create it")
    return FILES[path]


def test_values_in_files() -> None:
    source = [
        entry(password=..., password_file="/password"),
        entry(name="b", backup_age_private_key=None, backup_age_private_key_file="/key", password_file=None),
    ]
    for written in (source, json.dumps(source)):
        found = databases.with_files(written, read=read_file, private=True)
        assert parse(found) == parse([entry(), entry(name="b")])
    assert source[0]["password_file"] == "/password", "the list that was given is unchanged"


def test_a_list_without_files_is_not_touched() -> None:
    for source in ([entry()], json.dumps([entry()]), "[broken", 7, "", [], [3]):
        assert databases.with_files(source, read=read_file, private=True) is source


def test_every_error_of_a_file_is_reported_at_once() -> None:
    source = [
        entry(password_file="/password"),
        entry(name="b", password=..., password_file="/none"),
        entry(name="c", password=..., password_file=7),
        entry(name="d", password=..., password_file=""),
        3,
    ]
    with pytest.raises(databases.InvalidDatabases) as caught:
        databases.with_files(source, read=read_file, private=True)
    assert [(fault.entry, fault.field, fault.reason) for fault in caught.value.faults] == [
        ("entry 1 (app)", "password_file", "is set beside password"),
        ("entry 2 (b)", "password_file", "the file cannot be read: No such file"),
        ("entry 3 (c)", "password_file", "is a number"),
        ("entry 4 (d)", "password_file", "is empty"),
    ]
    assert PASSWORD not in str(caught.value)


def test_a_file_that_nobody_has_read_is_one_error() -> None:
    assert reason([entry(password=..., password_file="/password")]) == "is not read here"
    assert reason([entry(backup_age_private_key=..., backup_age_private_key_file="/key")]) == "is not read here"
    public = entry(backup_age_private_key=..., backup_age_private_key_file="/key")
    # On a host, not even where files are read.
    found = databases.with_files([public], read=read_file, private=False)
    assert reason(found, private=False) == "must not be present here"


def test_a_misspelt_field_of_a_file() -> None:
    assert "did you mean password_file?" in reason([entry(password=..., pasword_file="/password")])
