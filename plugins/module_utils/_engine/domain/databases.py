# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The schema of ``databases_json``, the list of declared databases.

The whole list is validated before any entry is used, and every error is reported at once, by entry and field.
docs/formats/databases-list.md has the rules.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import typing as t

from ..errors import ConfigurationError
from . import layout, manifest, names, suggestions
from .listfields import FIELDS, FILE_FIELDS, MAX_NAME_BYTES, RESERVED_ROLES, SYSTEM_DATABASES
from .secret import Secret
from .text import NotJson, strict_json, utf8_size

#: Name of the list in errors, unless the user knows it by another name.
DEFAULT_NAME = "databases_json"
_PRIVATE_FIELD = "backup_age_private_key"
_PRIVATE_KEY_ERROR = (
    "contains a private key",
    "give the public key of a new pair; anyone who could read this list may have this private key",
)


@dataclasses.dataclass(frozen=True)
class Fault:
    """One error in the list.

    :param entry: ``entry 3 (app)``, counted from 1, or ``list`` for the list as a whole.
    :param field: name of the field; empty for the entry as a whole.
    """

    entry: str
    field: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.entry}, {self.field}" if self.field else self.entry
        return f"{where}: {self.reason} ({self.remedy})" if self.remedy else f"{where}: {self.reason}"


class InvalidDatabases(ConfigurationError):
    """The list is invalid; :attr:`faults` has every error in it.

    :param name: what the user calls the list, such as the variable that it came from.
    """

    def __init__(self, faults: t.Sequence[Fault], *, name: str = DEFAULT_NAME) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(
            f"{name} has {count} error{'s' if count > 1 else ''}: " + "; ".join(str(f) for f in self.faults),
            hint="correct the list and run again; nothing has been changed",
        )

    def as_dict(self) -> dict[str, t.Any]:
        """Return the data of the base class, and the errors as a list."""
        return {**super().as_dict(), "faults": [dataclasses.asdict(fault) for fault in self.faults]}


@dataclasses.dataclass(frozen=True)
class Database:
    """One valid entry.

    :param recipients: age recipients, one or more; each of them can decrypt this database's backups.
    :param identity: the age private key; present only when a restore needs it.
    :param backup_prefix: prefix of the backups instead of ``db/<name>/``; ends with ``/``.
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
    def kind(self) -> str:
        """What the objects of its backups contain."""
        return manifest.DUMP

    @property
    def prefix(self) -> str:
        """The prefix of the backups of this database; it ends with ``/``."""
        return self.backup_prefix or layout.prefix(self.name)


@dataclasses.dataclass(frozen=True)
class Databases:
    """A valid list, with warnings about it."""

    entries: tuple[Database, ...]
    warnings: tuple[str, ...] = ()

    def named(self, name: str) -> Database:
        """The entry of the database *name*.

        :raises ConfigurationError: if the list has no such entry.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        near = suggestions.nearest(name, [entry.name for entry in self.entries])
        raise ConfigurationError(
            f"database {name!r} is not in the databases list" + ("" if near is None else f"; did you mean {near!r}?"),
            cause="the list has " + ", ".join(repr(entry.name) for entry in self.entries),
            hint="name one of these databases, or add an entry (infrazero_databases, DATABASES_JSON in db.env)",
        )

    def selected(self, names: t.Sequence[str] | None) -> tuple[Database, ...]:
        """The entries of the databases *names*, each once; ``None`` selects all entries.

        :raises ConfigurationError: for a name that is not in the list.
        """
        if names is None:
            return self.entries
        return tuple(self.named(name) for name in dict.fromkeys(names))

    def passwords(self) -> dict[str, Secret]:
        """Password by user; if several entries name the same user, the last one wins.

        docs/formats/databases-list.md has this rule.
        """
        return {entry.user: entry.password for entry in self.entries}


class KeyRules(t.Protocol):
    """Validators of age keys, passed in by the caller so that this package needs no cryptography.

    Each returns ``None`` if the key is valid, otherwise the reason, without any key material.
    """

    def recipient_fault(self, text: str) -> str | None:
        """Validate *text* as a recipient."""

    def mix_fault(self, recipients: t.Sequence[str]) -> str | None:
        """Check that all of *recipients*, each of them valid, can be used together."""

    def identity_fault(self, secret: Secret) -> str | None:
        """Validate *secret* as an identity."""

    def pair_fault(self, recipients: t.Sequence[str], secret: Secret) -> str | None:
        """Check that the identity can decrypt what is encrypted to the recipients."""


def parse(
    source: object,
    *,
    rules: KeyRules,
    private: bool,
    maintenance_database: str = "postgres",
    name: str = DEFAULT_NAME,
) -> Databases:
    """Validate a whole list.

    :param source: JSON text, or what JSON decodes to.
    :param rules: validators of the age keys.
    :param private: whether private keys may be present.  A host's own list is parsed with ``False``: a private key in
        it is an error, because a host keeps only public keys.
    :param name: name of the list in errors.
    :raises InvalidDatabases: if the list is invalid; it has every error.
    """
    items = _items(source, name)
    faults: list[Fault] = []
    warnings: list[str] = []
    entries: list[Database] = []
    first_with: dict[str, int] = {}
    places: dict[str, str] = {}
    system = SYSTEM_DATABASES | {maintenance_database}
    for number, item in enumerate(items, start=1):
        reader = _Entry(number, item, faults)
        if not isinstance(item, t.Mapping):
            reader.not_an_object()
            continue
        ignored = reader.unknown_fields()
        if ignored:
            warnings.append(f"{reader.label}: unknown fields are ignored: {', '.join(ignored)}")
        reader.unread_files(private=private)
        database = reader.identifier("name")
        if database is not None:
            if database in system:
                reader.fault("name", f"{database!r} is a template or maintenance database", "choose another name")
            if database in first_with:
                reader.fault(
                    "name",
                    f"{database!r} is already the name of entry {first_with[database]}",
                    "list each database once",
                )
            first_with.setdefault(database, number)
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
        if database is not None:
            reader.place(prefix or layout.prefix(database), places)
        if path and latest:
            warnings.append(f"{reader.label}: restore_dump_path is ignored because restore_latest is true")
        elif path:
            reader.location(path)
        if reader.faulty or database is None or user is None or password is None:
            continue
        entries.append(
            Database(
                name=database,
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
        raise InvalidDatabases(faults, name=name)
    return Databases(tuple(entries), tuple(warnings))


def decoded(source: object, *, name: str = DEFAULT_NAME) -> object:
    """The list, decoded from base64 if it is encoded (as in ``DATABASES_JSON_PRIVATE_B64``).

    :param name: name of the list in errors.
    :raises InvalidDatabases: if *source* is text that is neither JSON nor base64.
    """
    if not isinstance(source, str) or not source.strip() or source.lstrip()[0] in "[{":
        return source
    try:
        # Tools break base64 into lines.
        return base64.b64decode("".join(source.split()), validate=True)
    except ValueError:
        fault = Fault("list", "", "is neither JSON nor base64", "give a JSON array, or the base64 of one")
        raise InvalidDatabases([fault], name=name) from None


def with_files(source: object, *, read: t.Callable[[str], str], private: bool, name: str = DEFAULT_NAME) -> object:
    """The list with the contents of the files that entries name; the rest is not validated here.

    :param source: JSON text, or what JSON decodes to.
    :param read: returns what a field is to have for the path in the field of the file; it may raise
        :class:`ConfigurationError`.
    :param private: whether private keys may be present.  Otherwise their files are not read, and :func:`parse` refuses
        the fields.
    :param name: name of the list in errors.
    :raises InvalidDatabases: with an error for each file that cannot be used.
    """
    try:
        items = _items(source, name)
    except InvalidDatabases:
        return source  # parse() has more to say about it
    fields = {file: field for file, field in FILE_FIELDS.items() if private or field != _PRIVATE_FIELD}
    if not any(isinstance(item, t.Mapping) and not fields.keys().isdisjoint(item) for item in items):
        return source
    faults: list[Fault] = []
    found = [
        _Entry(number, item, faults).with_files(fields, read) if isinstance(item, t.Mapping) else item
        for number, item in enumerate(items, start=1)
    ]
    if faults:
        raise InvalidDatabases(faults, name=name)
    return found


def private_view(source: object, *, name: str = DEFAULT_NAME) -> list[dict[str, t.Any]]:
    """The list with all known fields (docs/formats/databases-list.md), private keys included, values unchanged.

    :param source: JSON text, its base64 (as in ``DATABASES_JSON_PRIVATE_B64``), or what JSON decodes to.
    :param name: name of the list in errors.
    :raises InvalidDatabases: if it is not a list of objects; the fields are not validated here.
    """
    return _view(decoded(source, name=name), FIELDS, name)


def public_view(source: object, *, name: str = DEFAULT_NAME) -> list[dict[str, t.Any]]:
    """The list as it may stay on a host: the known fields without the private key, values unchanged.

    Unknown fields are left out: one of them may be a private key under a misspelt name.

    :param source: JSON text, or what JSON decodes to.
    :param name: name of the list in errors.
    :raises InvalidDatabases: if it is not a list of objects, or if a field for a public key contains a private key; the
        fields are not validated otherwise.
    """
    view = _view(source, tuple(field for field in FIELDS if field != _PRIVATE_FIELD), name)
    faults: list[Fault] = []
    for number, item in enumerate(view, start=1):
        value = item.get("backup_age_public_key")
        for text in value if isinstance(value, t.Sequence) and not isinstance(value, str) else (value,):
            if isinstance(text, str) and contains_private_key(text):
                _Entry(number, item, faults).fault("backup_age_public_key", *_PRIVATE_KEY_ERROR)
    if faults:
        raise InvalidDatabases(faults, name=name)
    return view


def _view(source: object, fields: t.Sequence[str], name: str) -> list[dict[str, t.Any]]:
    faults: list[Fault] = []
    view: list[dict[str, t.Any]] = []
    for number, item in enumerate(_items(source, name), start=1):
        if isinstance(item, t.Mapping):
            view.append({field: item[field] for field in fields if field in item})
        else:
            _Entry(number, item, faults).not_an_object()
    if faults:
        raise InvalidDatabases(faults, name=name)
    return view


def contains_private_key(text: str) -> bool:
    """Whether *text* has the marks of a private key of age or OpenSSH."""
    return "AGE-SECRET-KEY-" in text.upper() or "PRIVATE KEY-----" in text


def _items(source: object, name: str) -> t.Sequence[t.Any]:
    if isinstance(source, (str, bytes)):
        try:
            source = strict_json(source)
        except NotJson as exc:
            raise InvalidDatabases(
                [Fault("list", "", f"is not valid JSON: {exc}", "give a JSON array")], name=name
            ) from None
    if not isinstance(source, t.Sequence) or isinstance(source, (str, bytes)):
        raise InvalidDatabases([Fault("list", "", f"is {_kind(source)}", "give a JSON array of objects")], name=name)
    if not source:
        raise InvalidDatabases([Fault("list", "", "is empty", "give at least one database")], name=name)
    return source


def _kind(value: object) -> str:
    kinds = (
        (type(None), "null"),
        (bool, "true or false"),  # before int, whose subclass it is
        ((int, float), "a number"),
        (str, "a string"),
        (t.Mapping, "an object"),
        (t.Sequence, "a list"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "not JSON")


def _nested(places: t.Mapping[str, str]) -> list[Fault]:
    """Errors for prefixes within another one, because their backups would be mistaken for the other database's.

    :param places: label of the entry, by prefix.
    """
    ordered = sorted(places)
    return [
        Fault(
            places[inner],
            "backup_prefix",
            f"{inner!r} is within {outer!r}, the prefix of {places[outer]}",
            "choose another prefix",
        )
        for outer, inner in zip(ordered, ordered[1:])
        if inner.startswith(outer)
    ]


class _Entry:
    """Reads the fields of one entry and records the errors in them."""

    def __init__(self, number: int, item: object, faults: list[Fault]) -> None:
        name = item.get("name") if isinstance(item, t.Mapping) else None
        # An invalid name may be anything, even a key in the wrong field, so it is not repeated.
        named = isinstance(name, str) and name.isprintable() and 0 < (utf8_size(name) or 0) <= MAX_NAME_BYTES
        self.label = f"entry {number} ({name})" if named else f"entry {number}"
        self._source = item
        self.item: t.Mapping[str, t.Any] = item if isinstance(item, t.Mapping) else {}
        self.faults = faults
        self.faulty = False
        #: Fields that are present only under a misspelt name: their absence is not a second error.
        self._meant: set[str] = set()

    def unknown_fields(self) -> list[str]:
        """Record an error for each misspelt field; return the other unknown fields, which are ignored."""
        ignored = []
        known = (*FIELDS, *FILE_FIELDS)
        for key in self.item:
            meant = suggestions.nearest(key, known) if isinstance(key, str) and key not in known else None
            if meant:
                self.faulty = True
                self.faults.append(Fault(self.label, "", suggestions.unknown(key, known, "an option")))
                self._meant.add(FILE_FIELDS.get(meant, meant))
            elif key not in known:
                ignored.append(repr(key))
        return sorted(ignored)

    def with_files(self, fields: t.Mapping[str, str], read: t.Callable[[str], str]) -> dict[str, t.Any]:
        """The entry with the contents of files, and an error for each that cannot be used.

        :param fields: fields by the field that names the file.
        :param read: contents by path.
        """
        found = dict(self.item)
        for file, field in fields.items():
            path = found.pop(file, None)
            if path is None:
                continue
            if self.item.get(field) is not None:
                self.fault(file, f"is set beside {field}", "remove one of the two")
            elif not isinstance(path, str) or not path:
                self.fault(file, f"is {'empty' if path == '' else _kind(path)}", "give the path of a file")
            else:
                try:
                    found[field] = read(path)
                except ConfigurationError as exc:
                    self.fault(file, f"{exc.message}: {exc.cause}" if exc.cause else exc.message, exc.hint)
        return found

    def unread_files(self, *, private: bool) -> None:
        """Record an error for each field of a file that nobody has read."""
        for file, field in FILE_FIELDS.items():
            if self.item.get(file) is None:
                continue
            self._meant.add(field)
            if field == _PRIVATE_FIELD and not private:
                self.fault(file, "must not be present here", "remove it: a host keeps only public keys")
            else:
                self.fault(
                    file,
                    "is not read here",
                    f"give {field}, or put the list into infrazero_databases, or on the host into DATABASES_JSON",
                )

    def fault(self, field: str, reason: str, remedy: str) -> None:
        self.faulty = True
        self.faults.append(Fault(self.label, field, reason, remedy))

    def not_an_object(self) -> None:
        self.fault("", f"is {_kind(self._source)}", "each entry is an object")

    def _text(self, field: str, remedy: str) -> str | None:
        value = self.item.get(field)
        if value is None:
            if field not in self._meant:
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
        value = self._text(field, f"give the name of the {'database' if field == 'name' else 'role'}")
        if value is None:
            return None
        size = utf8_size(value)
        if size is None:
            self.fault(field, "is not valid Unicode", "use only valid Unicode characters")
        elif size > MAX_NAME_BYTES:
            self.fault(field, f"is {size} bytes long", f"use at most {MAX_NAME_BYTES} bytes in UTF-8")
        elif re.search(r"\s", value):
            self.fault(field, "contains whitespace", "remove it")
        elif "/" in value or "\0" in value:
            self.fault(field, "contains '/' or NUL", "remove it")
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
            self.fault(
                "password",
                "contains NUL or is not valid Unicode",
                "PostgreSQL cannot store it: choose another password",
            )
            return None
        return Secret(value)

    def recipients(self, rules: KeyRules) -> tuple[str, ...]:
        """All recipients, or none if one is invalid, because the pair can't be checked then."""
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
            if contains_private_key(text):
                self.fault(field, *_PRIVATE_KEY_ERROR)
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
            self.fault(field, reason, "remove those that can't be combined with the others")
            return ()
        return tuple(good)

    def identity(self, rules: KeyRules, recipients: t.Sequence[str], *, private: bool) -> Secret | None:
        value = self.item.get(_PRIVATE_FIELD)
        if value is None:
            return None
        if not private:
            self.fault(_PRIVATE_FIELD, "must not be present here", "remove it: a host keeps only public keys")
            return None
        if not isinstance(value, str) or not value:
            kind = "empty" if value == "" else _kind(value)
            self.fault(_PRIVATE_FIELD, f"is {kind}", "give the age private key as a string, or omit the field")
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
            self.fault(field, f"is {_kind(value)}", "give true, false or null")
            return default
        return value

    def dump_path(self) -> str | None:
        field = "restore_dump_path"
        value = self.item.get(field)
        if value is None:
            return None
        remedy = "give a key in the bucket, a prefix that ends with '/', or s3://bucket/key"
        if not isinstance(value, str):
            self.fault(field, f"is {_kind(value)}", remedy)
        elif re.search(r"\s", value) or "\0" in value or utf8_size(value) is None:
            self.fault(field, "contains whitespace or NUL, or is not valid Unicode", remedy)
        elif value.startswith("/"):
            self.fault(field, "begins with '/'", remedy)
        elif re.match(r"https?://", value, re.IGNORECASE):
            self.fault(field, "is an HTTP URL", remedy)
        else:
            return value
        return None

    def location(self, path: str, field: str = "restore_dump_path") -> None:
        """Record an error for a location that a store would reject later."""
        try:
            layout.locate(path)
        except ConfigurationError as exc:
            self.fault(field, exc.cause, exc.hint)

    def prefix(self) -> str | None:
        field = "backup_prefix"
        value = self.item.get(field)
        if value is None:
            return None
        remedy = "give a prefix of keys that ends with '/', such as team/shop/"
        if not isinstance(value, str):
            self.fault(field, f"is {_kind(value)}", remedy)
        elif not value.endswith("/"):
            self.fault(field, "does not end with '/'", remedy)
        elif "//" in value or re.search(r"\s", value):
            self.fault(field, "contains '//' or whitespace", remedy)
        else:
            self.location(value, field)
            return value
        return None

    def signers(self) -> tuple[str, ...]:
        field = "backup_signers"
        value = self.item.get(field)
        if value is None:
            return ()
        remedy = "give names of hosts as in allowed_signers, such as [db1]"
        if not isinstance(value, t.Sequence) or isinstance(value, (str, bytes)):
            self.fault(field, f"is {_kind(value)}", remedy)
            return ()
        for position, name in enumerate(value, start=1):
            if not names.is_signer(name):
                self.fault(field, f"item {position} is not a valid name of a signing host", remedy)
                return ()
        return tuple(value)

    def place(self, prefix: str, places: dict[str, str]) -> None:
        """Record the prefix of the backups; two entries with the same name have an error already."""
        if places.setdefault(prefix, self.label) != self.label and self.item.get("backup_prefix"):
            self.fault(
                "backup_prefix", f"{prefix!r} is already the prefix of {places[prefix]}", "choose another prefix"
            )
