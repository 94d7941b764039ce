# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One configuration directory: the settings in its ``db.env``, and the keys beside it.

The command on the host and the modules read the same profile in the same way, each with its own settings on top: those
of the command line, or the options of the task.  So they do the same with the same configuration.

A relative path in ``db.env`` is relative to the directory of that file; one that the run itself gives, such as
``--config``, is relative to the working directory.  All are absolute from here on: programs that are started, such as
ssh-keygen, have another working directory.
"""

from __future__ import annotations

import dataclasses
import pathlib
import platform
import typing as t

from . import secretfiles, settings
from .backup.plan import BackupOptions
from .domain import envfile, layout, recipients, suggestions, trust
from .domain import values as of
from .domain.databases import Databases, parse, with_files
from .domain.restoring import RestoreOptions, require_copy_name
from .domain.subjects import ClusterGlobals, Subject
from .errors import ConfigurationError
from .settings import Values
from .signing import keys
from .sources.postgresql.connection import ConnectionSettings
from .stores.base import DirectorySettings, S3Settings
from .streams import age
from .streams.compression import Compression

#: Values of settings by their keys, see :class:`.settings.Values`.
Layer = t.Mapping[tuple[str, str], t.Any]


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a configuration directory says, with the settings of one run on top.

    :param directory: the directory; absolute.
    :param values: the settings.
    :param list_text: the databases list in ``db.env`` or in the file that it names, JSON text; ``""``: there is none.
    :param list_name: what errors call the list.
    :param warnings: about names in ``db.env`` that are not settings, and about files that others can read.
    """

    directory: pathlib.Path
    values: Values
    list_text: str = ""
    list_name: str = settings.LIST
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, directory: str | pathlib.Path) -> Profile:
        """Read ``db.env`` in *directory*.

        :raises ConfigurationError: where it can't be read, or a setting in it is not valid.
        """
        found, errors = cls.examine(directory)
        for error in errors.values():
            raise error
        return found

    @classmethod
    def examine(cls, directory: str | pathlib.Path) -> tuple[Profile, dict[str, ConfigurationError]]:
        """Read ``db.env`` in *directory*: the settings that are valid, and the errors in the others, by their names.

        :raises ConfigurationError: where it can't be read as a settings file.
        """
        directory = _absolute(directory)
        path = directory / "db.env"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            cause = (exc.strerror or "") if isinstance(exc, OSError) else "it is not UTF-8"
            raise ConfigurationError(
                f"cannot read {path}",
                cause=cause,
                hint="run as the user it belongs to, or run role runtime, which writes it",
            ) from None
        given = envfile.parse(text, name=str(path))
        named = f"{{}} in {path}"
        errors = settings.not_to_be_stored(given, name=str(path))
        warnings = list(_unknown(given, name=str(path)))
        for secret in (*settings.in_files(settings.STORED), settings.LIST):
            try:
                given, exposed = secretfiles.resolve(given, [secret], directory=directory, named=named)
                warnings += exposed
            except ConfigurationError as exc:
                errors[secret + secretfiles.SUFFIX] = exc
        values, invalid = settings.examine(given, settings.STORED, named=named)
        file = given.get(settings.LIST + secretfiles.SUFFIX, "").strip()
        found = cls(
            directory,
            Values(_anchored(values, directory)),
            list_text=given.get(settings.LIST, ""),
            list_name=str(directory / file) if file else settings.LIST,
            warnings=tuple(warnings),
        )
        return found, {**errors, **invalid}

    @classmethod
    def empty(cls, directory: str | pathlib.Path) -> Profile:
        """A profile that sets nothing; keys are those of *directory*."""
        return cls(_absolute(directory), Values())

    def over(self, layer: Layer) -> Profile:
        """The same, with *layer* on top.

        A bucket in it replaces a directory below it, and the other way round: they exclude each other.
        """
        values = self.values.over(_anchored(layer, ""))
        bucket, directory = ("store", "bucket"), ("store", "directory")
        if layer.get(bucket) is not None and layer.get(directory) is None:
            values = values.without(directory)
        elif layer.get(directory) is not None and layer.get(bucket) is None:
            values = values.without(bucket)
        return dataclasses.replace(self, values=values)

    def over_environment(self, environment: t.Mapping[str, str]) -> Profile:
        """The same, with the settings of a restore in *environment* on top.

        :raises ConfigurationError: for a value that is not valid, and for a name that is not a setting: one that is
            misspelt would otherwise be without effect.
        """
        secrets = settings.in_files(settings.SWITCHES)
        known = (*settings.SWITCHES, *(name + secretfiles.SUFFIX for name in secrets))
        for name in environment:
            if name.startswith("DB_RESTORE_") and name not in known:
                message = suggestions.unknown(name, known, "a setting of a restore")
                raise ConfigurationError(message, hint="correct or unset the environment variable")
        given, exposed = secretfiles.resolve(environment, secrets, directory="", named="{} in the environment")
        found = self.over(settings.read(given, settings.SWITCHES))
        return dataclasses.replace(found, warnings=(*self.warnings, *exposed))

    def databases(self) -> Databases:
        """The databases list of ``db.env``, with the passwords that are in files.

        :raises ConfigurationError: where there is none, or it is not valid.
        """
        if not self.list_text:
            raise ConfigurationError(
                f"{self.directory / 'db.env'} has no {settings.LIST}",
                hint="run role runtime or the playbook bootstrap again, or give a list",
            )
        return parse(
            with_files(self.list_text, read=self._secret, private=False, name=self.list_name),
            rules=age,
            private=False,
            maintenance_database=self.values.get("connection", "maintenance_database"),
            name=self.list_name,
        )

    # Option objects

    def connection(self) -> ConnectionSettings:
        """How the server is reached."""
        return ConnectionSettings(**self.values.of_section("connection"))

    def store(self) -> S3Settings | DirectorySettings:
        """Where backups are stored.

        :raises ConfigurationError: where nothing says so.
        """
        values = self.values.of_section("store")
        directory = values.pop("directory")
        if directory is not None:
            return DirectorySettings(path=directory)
        if values["bucket"] is None:
            raise ConfigurationError(
                "nothing says where backups are stored",
                cause="neither a bucket nor a directory is set",
                hint="set bucket (DB_BACKUP_BUCKET in db.env, infrazero_s3_bucket in the inventory), or directory"
                " (DB_BACKUP_DIRECTORY, infrazero_backup_directory)",
            )
        return S3Settings(**values)

    def signing_name(self) -> str:
        """The name that this host signs under."""
        return t.cast(str, self.values.get("signing", "signing_name") or platform.node())

    def signer(self) -> keys.Signer | None:
        """The host's own key; ``None``: it has none.

        :raises ConfigurationError: if it cannot be used, or if a setting names a file that does not exist.
        """
        path = self._file("signing_key", settings.SIGNING_KEY)
        found = keys.Signer.at(path, host=self.signing_name())
        if found is None and self.values.get("signing", "signing_key"):
            raise ConfigurationError(
                f"the signing key {path} does not exist",
                hint=f"correct {settings.name_for_errors('signing', 'signing_key')}, or leave it out: backups are then"
                f" signed with {settings.SIGNING_KEY} in the configuration directory, if that exists",
            )
        return found

    def trust(self) -> trust.Trust:
        """Whose backups are accepted."""
        get = self.values.get
        return trust.Trust(
            mode=get("restore", "trust"),
            allowed_signers=self._keys("allowed_signers", settings.ALLOWED_SIGNERS),
            revoked_keys=self._keys("revoked_keys", settings.REVOKED_KEYS),
            max_age=get("restore", "max_age") or None,
            name=self.signing_name(),
            own_key=keys.own_public_key(self._file("signing_key", settings.SIGNING_KEY)),
            signers=get("signing", "signers"),
            once=get("restore", "signer"),
        )

    def cluster_globals(self) -> ClusterGlobals:
        """The globals of the cluster, as a subject of backups."""
        get = self.values.get
        return ClusterGlobals(
            cluster_prefix=get("cluster", "prefix") or layout.cluster_prefix(self.signing_name()),
            recipients=get("cluster_backup", "age_public_keys"),
            passwords=get("cluster_backup", "passwords"),
        )

    def subjects(self) -> tuple[Subject, ...]:
        """Everything that a backup of all backs up: the databases, and the globals of the cluster with recipients.

        :raises ConfigurationError: see :meth:`databases`.
        """
        cluster = self.cluster_globals()
        return (*self.databases().entries, *([cluster] if cluster.recipients else []))

    def selected(self, names: t.Sequence[str] | None) -> tuple[Subject, ...]:
        """The databases *names*; without any, all of :meth:`subjects`.

        :raises ConfigurationError: for a name that is not in the list.
        """
        return tuple(self.databases().selected(names)) if names else self.subjects()

    def backup_options(self) -> BackupOptions:
        """How backups are created."""
        values = self.values.of_section("backup")
        return BackupOptions(
            compression=Compression(method=values["compression"]),
            jobs=values["jobs"],
            run_on=values["run_on"],
            run_on_window=values["run_on_window"],
            take_over=values["take_over"],
            allow_unsigned=values["allow_unsigned"],
            lock_wait_seconds=int(values["lock_wait"].total_seconds()),
            signer=self.signer(),
            trust=self.trust(),
            require_restorable=values["require_restorable"],
            restores=RestoreOptions(**self._restore_values(), trust=self.trust()),
        )

    def restore_options(self, listed: Databases) -> RestoreOptions:
        """How backups are restored.

        :param listed: the list, whose users' roles are never dropped.
        :raises ConfigurationError: if a copy is asked for that cannot have its name.
        """
        users = frozenset(database.user for database in listed.entries)
        options = RestoreOptions(
            **self._restore_values(),
            protected_roles=users,
            trust=self.trust(),
            owners=recipients.owners([*listed.entries, self.cluster_globals()]),
        )
        require_copy_name(
            options,
            listed={database.name for database in listed.entries},
            maintenance_database=self.connection().maintenance_database,
        )
        return options

    def _restore_values(self) -> dict[str, t.Any]:
        names = {field.name for field in dataclasses.fields(RestoreOptions)} - {"trust"}
        values = self.values.of_section("restore")
        # A keyword of Python cannot be a field.
        values["as_name"] = values.pop("as")
        return {name: value for name, value in values.items() if name in names}

    def _secret(self, path: str) -> str:
        return secretfiles.read(self.directory / path, named="the list").text

    def _file(self, name: str, below: str) -> str:
        return t.cast(str, self.values.get("signing", name) or str(self.directory / below))

    def _keys(self, name: str, below: str) -> str:
        given = self.values.get("signing", name)
        return keys.read_keys(self._file(f"{name}_file", below)) if given is None else t.cast(str, given)


def _absolute(path: str | pathlib.Path) -> pathlib.Path:
    """*path*, relative to the working directory."""
    try:
        return pathlib.Path(path).absolute()
    except OSError as exc:
        raise ConfigurationError(
            f"{path} is relative to a working directory that does not exist",
            cause=exc.strerror or "",
            hint="give an absolute path, or change to another directory",
        ) from None


def _anchored(layer: Layer, directory: str | pathlib.Path) -> Layer:
    """*layer* with absolute paths.

    :param directory: what relative ones are relative to; ``""``: the working directory.
    """
    return {
        key: str(_absolute(pathlib.Path(directory, value)))
        if value is not None and settings.BY_KEY[key].type is of.PATH and not pathlib.Path(value).is_absolute()
        else value
        for key, value in layer.items()
    }


def _unknown(names: t.Iterable[str], *, name: str) -> t.Iterator[str]:
    secrets = (*settings.in_files(settings.STORED), settings.LIST)
    known = (*settings.STORED, *settings.OTHER_NAMES, *(each + secretfiles.SUFFIX for each in secrets))
    for each in names:
        if each not in known and not each.startswith(settings.IGNORED_PREFIXES):
            yield f"{name}: {suggestions.unknown(each, known, 'a setting')}"
