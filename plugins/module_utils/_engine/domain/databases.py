# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The schema of ``databases_json``: the wish that everything starts from.

The whole list is validated before anything is done with any of it, and every fault is reported at once, by entry and
field.  Other tools read the same list (field table of ``databases_json``).
"""

from __future__ import annotations

import base64
import dataclasses
import re
import typing as t

from ..errors import ConfigurationError
from . import layout, names
from .secret import Secret
from .text import NotJson, strict_json, utf8_size

#: ``datname`` and ``rolname`` are of PostgreSQL's type ``name``: 63 bytes and the closing NUL.
MAX_NAME_BYTES = 63
#: Databases that every cluster has and that belong to nobody's list.
SYSTEM_DATABASES = frozenset({"postgres", "template0", "template1"})
#: Words that PostgreSQL does not take as the name of a role.
RESERVED_ROLES = frozenset({"public", "none"})
#: The fields of an entry: those that other tools know, then our own.
FIELDS = (
    "name",
    "user",
    "password",
    "backup_age_public_key",
    "backup_age_private_key",
    "restore_latest",
    "restore_dump_path",
    "backup_prefix",
    "backup_signers",
)
_PRIVATE_FIELD = "backup_age_private_key"
_PRIVATE_KEY_FAULT = (
    "holds a private key",
    "give the public key that belongs to it, of a new pair: anyone who could read this list may have the private key",
)


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the list.

    :param entry: ``entry 3 (app)``, or ``list`` for the list as a whole; counted from 1.
    :param field: the field's name, empty for the entry as a whole.
    """

    entry: str
    field: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.entry}, {self.field}" if self.field else self.entry
        return f"{where}: {self.reason} ({self.remedy})"


class InvalidDatabases(ConfigurationError):
    """The list breaks a rule; :attr:`faults` holds every fault found."""

    def __init__(self, faults: t.Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(
            f"databases_json has {count} fault{'s' if count > 1 else ''}: " + "; ".join(str(f) for f in self.faults),
            hint="correct the list and run again; nothing has been changed",
        )

    def as_dict(self) -> dict[str, t.Any]:
        """As the base class, with the faults as a list."""
        return {**super().as_dict(), "faults": [dataclasses.asdict(fault) for fault in self.faults]}


@dataclasses.dataclass(frozen=True)
class Database:
    """One valid entry.

    :param recipients: age recipients, one or more; every one of them can open this database's backups.
    :param identity: the age private key, present only where a restore is to be made.
    :param backup_prefix: where backups are instead of ``db/<name>/``; ends with ``/``.
    :param backup_signers: names of hosts whose backups of this database are accepted in addition to this host's own.
    """

    name: str
    user: str
    password: Secret
    recipients: tuple[str, ...]
    identity: Secret | None = None
    restore_latest: bool = True
    restore_dump_path: str | None = None
    backup_prefix: str | None = None
    backup_signers: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """The prefix of the backups of this database; it ends with ``/``."""
        return self.backup_prefix or layout.prefix(self.name)


@dataclasses.dataclass(frozen=True)
class Databases:
    """A valid list, with what should be said about it though it is not wrong."""

    entries: tuple[Database, ...]
    warnings: tuple[str, ...] = ()

    def named(self, name: str) -> Database:
        """The entry of database *name*; a clear error where the list has none."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise ConfigurationError(
            f"database {name!r} is not in databases_json",
            cause="the list has " + ", ".join(repr(entry.name) for entry in self.entries),
            hint="name one of these, or add an entry",
        )

    def passwords(self) -> dict[str, Secret]:
        """Password by user; if a user is in several entries, the last one wins."""
        return {entry.user: entry.password for entry in self.entries}


class KeyRules(t.Protocol):
    """Validators of age keys, passed in so that this package needs no cryptography.

    Each answers ``None`` for "fine", else the reason in words that hold no key material.
    """

    def recipient_fault(self, text: str) -> str | None:
        """Is *text* a recipient that something can be encrypted to?"""

    def mix_fault(self, recipients: t.Sequence[str]) -> str | None:
        """Can something be encrypted to all of *recipients*, each of them valid, at once?"""

    def identity_fault(self, secret: Secret) -> str | None:
        """Is *secret* an identity that something can be decrypted with?"""

    def pair_fault(self, recipients: t.Sequence[str], secret: Secret) -> str | None:
        """Does the identity open what is encrypted to the recipients?"""


def parse(source: object, *, rules: KeyRules, private: bool, maintenance_database: str = "postgres") -> Databases:
    """Validate a whole list.

    :param source: JSON text, or what JSON text decodes to.
    :param rules: validators of the age keys.
    :param private: whether private keys may be present.  A host's own list is read with ``False``: a private key in it
        is a fault, because a host keeps public keys only.
    :raises InvalidDatabases: with every error in the list.
    """
    items = _items(source)
    faults: list[Fault] = []
    warnings: list[str] = []
    entries: list[Database] = []
    first_with: dict[str, int] = {}
    places: dict[str, str] = {}
    system = SYSTEM_DATABASES | {maintenance_database}
    for number, item in enumerate(items, start=1):
        reader = _Entry(number, item, faults)
        if not isinstance(item, t.Mapping):
            reader.no_object()
            continue
        unknown = sorted(repr(key) for key in item if key not in FIELDS)
        if unknown:
            warnings.append(f"{reader.label}: unknown fields are ignored: {', '.join(unknown)}")
        name = reader.identifier("name")
        if name is not None:
            if name in system:
                reader.fault("name", f"{name!r} is a template or maintenance database", "choose another name")
            if name in first_with:
                reader.fault(
                    "name", f"{name!r} is already the name of entry {first_with[name]}", "list each database once"
                )
            first_with.setdefault(name, number)
        user = reader.identifier("user")
        if user is not None and (user in RESERVED_ROLES or user.startswith("pg_")):
            reader.fault("user", f"{user!r} is reserved by PostgreSQL", "choose another name")
        password = reader.password()
        recipients = reader.recipients(rules)
        identity = reader.identity(rules, recipients, private=private)
        latest = reader.flag("restore_latest", default=True)
        path = reader.dump_path()
        prefix = reader.prefix()
        signers = reader.signers()
        if name is not None:
            reader.place(prefix or layout.prefix(name), places)
        if path and latest:
            warnings.append(f"{reader.label}: restore_dump_path is ignored because restore_latest is true")
        elif path:
            reader.location(path)
        if reader.faulty or name is None or user is None or password is None:
            continue
        entries.append(
            Database(
                name=name,
                user=user,
                password=password,
                recipients=recipients,
                identity=identity,
                restore_latest=latest,
                restore_dump_path=path,
                backup_prefix=prefix,
                backup_signers=signers,
            )
        )
    faults += _nested(places)
    if faults:
        raise InvalidDatabases(faults)
    return Databases(tuple(entries), tuple(warnings))


def private_view(source: object) -> list[dict[str, t.Any]]:
    """The list with all known fields, private keys included, as it came.

    :param source: JSON text, the base64 of it (``DATABASES_JSON_PRIVATE_B64``), or what JSON decodes to.
    :raises InvalidDatabases: if it is not a list of objects; the fields are not validated here.
    """
    if isinstance(source, str) and source.strip() and source.lstrip()[0] not in "[{":
        try:
            # Tools wrap base64 into lines.
            source = base64.b64decode("".join(source.split()), validate=True)
        except ValueError:
            raise InvalidDatabases(
                [Fault("list", "", "is neither JSON nor base64", "give a JSON array, or the base64 of one")]
            ) from None
    return _view(source, FIELDS)


def public_view(source: object) -> list[dict[str, t.Any]]:
    """The list as it may stay on a host: all known fields but the private key, as they came.

    Unknown fields are left out: one may be a private key under a misspelt name.

    :param source: JSON text, or what JSON decodes to.
    :raises InvalidDatabases: if it is not a list of objects, or a private key is in the place of the public one; the
        fields are not validated otherwise.
    """
    view = _view(source, tuple(field for field in FIELDS if field != _PRIVATE_FIELD))
    faults: list[Fault] = []
    for number, item in enumerate(view, start=1):
        value = item.get("backup_age_public_key")
        for text in value if isinstance(value, t.Sequence) and not isinstance(value, str) else (value,):
            if isinstance(text, str) and _holds_private_key(text):
                _Entry(number, item, faults).fault("backup_age_public_key", *_PRIVATE_KEY_FAULT)
    if faults:
        raise InvalidDatabases(faults)
    return view


def _view(source: object, fields: t.Sequence[str]) -> list[dict[str, t.Any]]:
    faults: list[Fault] = []
    view: list[dict[str, t.Any]] = []
    for number, item in enumerate(_items(source), start=1):
        if isinstance(item, t.Mapping):
            view.append({field: item[field] for field in fields if field in item})
        else:
            _Entry(number, item, faults).no_object()
    if faults:
        raise InvalidDatabases(faults)
    return view


def _holds_private_key(text: str) -> bool:
    return "AGE-SECRET-KEY-" in text.upper() or "PRIVATE KEY-----" in text


def _items(source: object) -> t.Sequence[t.Any]:
    if isinstance(source, (str, bytes)):
        try:
            source = strict_json(source)
        except NotJson as exc:
            raise InvalidDatabases([Fault("list", "", f"is not valid JSON: {exc}", "give a JSON array")]) from None
    if not isinstance(source, t.Sequence) or isinstance(source, (str, bytes)):
        raise InvalidDatabases([Fault("list", "", f"is {_kind(source)}", "give a JSON array of objects")])
    if not source:
        raise InvalidDatabases([Fault("list", "", "is empty", "give at least one database")])
    return source


def _kind(value: object) -> str:
    kinds = (
        (type(None), "null"),
        (bool, "true or false"),  # before int, whose subclass it is
        ((int, float), "a number"),
        (str, "a text"),
        (t.Mapping, "an object"),
        (t.Sequence, "a list"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "not JSON")


def _nested(places: t.Mapping[str, str]) -> list[Fault]:
    """Backups among those of another database would be taken for them.

    :param places: label of the entry by prefix.
    """
    ordered = sorted(places)
    return [
        Fault(places[inner], "backup_prefix", f"{inner!r} is within {outer!r} of {places[outer]}", "choose another one")
        for outer, inner in zip(ordered, ordered[1:])
        if inner.startswith(outer)
    ]


class _Entry:
    """Reads the fields of one entry and notes what is wrong with them."""

    def __init__(self, number: int, item: object, faults: list[Fault]) -> None:
        name = item.get("name") if isinstance(item, t.Mapping) else None
        # A name that can't be one may be anything, also a key in the wrong field: it is not repeated.
        named = isinstance(name, str) and name.isprintable() and 0 < (utf8_size(name) or 0) <= MAX_NAME_BYTES
        self.label = f"entry {number} ({name})" if named else f"entry {number}"
        self._source = item
        self.item: t.Mapping[str, t.Any] = item if isinstance(item, t.Mapping) else {}
        self.faults = faults
        self.faulty = False

    def fault(self, field: str, reason: str, remedy: str) -> None:
        self.faulty = True
        self.faults.append(Fault(self.label, field, reason, remedy))

    def no_object(self) -> None:
        self.fault("", f"is {_kind(self._source)}", "each entry is an object")

    def _text(self, field: str, remedy: str) -> str | None:
        value = self.item.get(field)
        if value is None:
            self.fault(field, "is missing", remedy)
            return None
        if not isinstance(value, str):
            self.fault(field, f"is {_kind(value)}", remedy)
            return None
        if not value:
            self.fault(field, "is empty", remedy)
            return None
        return value

    def identifier(self, field: str) -> str | None:
        value = self._text(field, f"give the {'database' if field == 'name' else 'role'}'s name")
        if value is None:
            return None
        size = utf8_size(value)
        if size is None:
            self.fault(field, "is not valid Unicode", "use characters that UTF-8 can hold")
        elif size > MAX_NAME_BYTES:
            self.fault(field, f"is {size} bytes long", f"at most {MAX_NAME_BYTES} bytes in UTF-8")
        elif re.search(r"\s", value):
            self.fault(field, "holds whitespace", "leave it out")
        elif "/" in value or "\0" in value:
            self.fault(field, "holds '/' or NUL", "leave it out")
        elif value in (".", ".."):
            self.fault(field, f"is {value!r}, which is not a valid name in an object store", "choose another name")
        else:
            return value
        return None

    def password(self) -> Secret | None:
        value = self._text("password", "give the role's password")
        if value is None:
            return None
        if "\0" in value or utf8_size(value) is None:
            self.fault("password", "holds NUL or is not valid Unicode", "PostgreSQL can't take it")
            return None
        return Secret(value)

    def recipients(self, rules: KeyRules) -> tuple[str, ...]:
        """All of them, or none if one is invalid: a pair can't be validated then."""
        field = "backup_age_public_key"
        remedy = "give an age recipient, or a list of them"
        value = self.item.get(field)
        texts: list[t.Any]
        if isinstance(value, t.Sequence) and not isinstance(value, (str, bytes)):
            texts = list(value)
            if not texts:
                self.fault(field, "is an empty list", remedy)
        else:
            text = self._text(field, remedy)
            texts = [] if text is None else [text]
        good: list[str] = []
        for position, text in enumerate(texts, start=1):
            which = f"item {position} " if len(texts) > 1 else ""
            if not isinstance(text, str):
                self.fault(field, f"{which}is {_kind(text)}", remedy)
                continue
            if _holds_private_key(text):
                self.fault(field, *_PRIVATE_KEY_FAULT)
                continue
            reason = rules.recipient_fault(text)
            if reason is not None:
                self.fault(field, f"{which}{reason}", remedy)
                continue
            good.append(text.strip())
        if len(good) < len(texts):
            return ()
        reason = rules.mix_fault(good) if len(good) > 1 else None
        if reason is not None:
            self.fault(field, reason, "leave out those that do not go with the others")
            return ()
        return tuple(good)

    def identity(self, rules: KeyRules, recipients: t.Sequence[str], *, private: bool) -> Secret | None:
        value = self.item.get(_PRIVATE_FIELD)
        if value is None:
            return None
        if not private:
            self.fault(_PRIVATE_FIELD, "must not be present here", "a host keeps public keys only: take it out")
            return None
        if not isinstance(value, str) or not value:
            kind = "empty" if value == "" else _kind(value)
            self.fault(_PRIVATE_FIELD, f"is {kind}", "give the age private key as text, or leave the field out")
            return None
        secret = Secret(value)
        reason = rules.identity_fault(secret) or (rules.pair_fault(recipients, secret) if recipients else None)
        if reason is not None:
            self.fault(_PRIVATE_FIELD, reason, "give the private key that belongs to backup_age_public_key")
            return None
        return secret

    def flag(self, field: str, *, default: bool) -> bool:
        value = self.item.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(field, f"is {_kind(value)}", "true, false or null")
            return default
        return value

    def dump_path(self) -> str | None:
        field = "restore_dump_path"
        value = self.item.get(field)
        if value is None:
            return None
        remedy = "a key of the bucket, or s3://bucket/key; a prefix ends with '/'"
        if not isinstance(value, str):
            self.fault(field, f"is {_kind(value)}", remedy)
        elif re.search(r"\s", value) or "\0" in value or utf8_size(value) is None:
            self.fault(field, "holds whitespace, NUL or no valid Unicode", remedy)
        elif value.startswith("/"):
            self.fault(field, "begins with '/'", remedy)
        elif re.match(r"https?://", value, re.IGNORECASE):
            self.fault(field, "is a web address", remedy)
        else:
            return value
        return None

    def location(self, path: str, field: str = "restore_dump_path") -> None:
        """Note what a store would refuse only when it is used."""
        try:
            layout.locate(path)
        except ConfigurationError as exc:
            self.fault(field, exc.cause, exc.hint)

    def prefix(self) -> str | None:
        field = "backup_prefix"
        value = self.item.get(field)
        if value is None:
            return None
        remedy = "the beginning of keys, which ends with '/', such as team/shop/"
        if not isinstance(value, str):
            self.fault(field, f"is {_kind(value)}", remedy)
        elif not value.endswith("/"):
            self.fault(field, "does not end with '/'", remedy)
        elif "//" in value or re.search(r"\s", value):
            self.fault(field, "holds '//' or whitespace", remedy)
        else:
            self.location(value, field)
            return value
        return None

    def signers(self) -> tuple[str, ...]:
        field = "backup_signers"
        value = self.item.get(field)
        if value is None:
            return ()
        remedy = "give names of hosts as allowed_signers has them, such as [db1]"
        if not isinstance(value, t.Sequence) or isinstance(value, (str, bytes)):
            self.fault(field, f"is {_kind(value)}", remedy)
            return ()
        for position, name in enumerate(value, start=1):
            if not names.is_signer(name):
                self.fault(field, f"item {position} is not the name of a host that signs", remedy)
                return ()
        return tuple(value)

    def place(self, prefix: str, places: dict[str, str]) -> None:
        """Note where the backups are; two entries of one name are an error already."""
        if places.setdefault(prefix, self.label) != self.label and self.item.get("backup_prefix"):
            self.fault(
                "backup_prefix", f"{prefix!r} is where the backups of {places[prefix]} are", "choose another one"
            )
