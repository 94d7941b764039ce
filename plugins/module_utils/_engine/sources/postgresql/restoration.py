# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One restore as the server sees it: a staging database that is filled, handed over and swapped in."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import secrets
import typing as t

from ...domain import names, restoring
from ...domain.records import OUTSTANDING, RESTORED, RestoredFrom
from ...domain.restoring import REFUSE
from ...errors import PostgresError
from ...settings import name_for_errors
from ..base import Loaded, Open, Swapped, Task
from . import (
    copies,
    cron,
    database_settings,
    definer,
    extensions,
    facts,
    leftovers,
    load,
    loader_role,
    lock,
    ownership,
    sessions,
    settings_text,
    staging,
    state,
    swap,
)
from .connection import ConnectionSettings, connect
from .dumpreading import DumpReading
from .dumptext import events, preamble, tally
from .dumptext.selection import Selection

if t.TYPE_CHECKING:
    import typing_extensions as te
    from psycopg2.extensions import connection as Connection


_UNSIGNED = (
    "only a superuser may create it, and the backup is not signed, so whoever could write it may have chosen what it"
    " defines: if you trust all of them, set {}"
)
_NO_LIST = (
    "only a superuser may create it, and the backup does not list what superusers have created, as version 0.1 did not:"
    " back up again with this version while the source exists, or restore the dump with psql"
)
_NOT_LISTED = (
    "only a superuser may create it, and the backup does not list it: either the source did not have it, or it acted"
    " with the rights of an owner who was no superuser, and who has to be replaced in the source before the next backup"
)

_ENCODING = re.compile(rb"^SET client_encoding = '([A-Za-z0-9_]{1,63})';\r?$", re.MULTILINE)


def encoding_of(text: bytes) -> str | None:
    """Return the encoding that the beginning of a dump's text names; ``None``: it names none."""
    named = _ENCODING.search(text)
    return named[1].decode("ascii") if named else None


class Restoration(DumpReading):
    """The staging database of one restore; a context around all of it, within the limits of time and size.

    :param admin: an autocommit session in the maintenance database.
    :param held: the lock of the database.
    """

    def __init__(self, task: Task, *, admin: Connection, held: lock.Lock, settings: ConnectionSettings) -> None:
        super().__init__(task, admin=admin)
        self._held = held
        self._settings = settings
        self._name = task.database.name
        self._owner = task.database.user
        self._options = task.options
        self._is_copy = task.copy_of is not None
        self._id = secrets.token_hex(4)
        self._database = names.staging_name(self._name, self._id)
        self._kept_name = names.replaced_name(self._name, self._id)
        self._role = names.loader_role(self._id)
        self._search_path: list[str] | None = None
        #: Open while the staging database is filled: its sessions, and the watch over its size.
        self._filling = contextlib.ExitStack()
        self._around = contextlib.ExitStack()
        self._loaded: load.LoadResult | None = None
        self._definer: definer.Definer | None = None
        self._swapped = False
        self._warnings: list[str] = []
        self._load_options: load.LoadOptions | None = None
        # Of a database that was dropped to make room: its successor gets these settings.
        self._before: database_settings.DatabaseSettings | None = None

    def __enter__(self) -> te.Self:
        self._around.enter_context(self.limits)
        try:
            self._around.enter_context(self.limits.holding(self._admin, to_tidy_up=True))
            leftovers.remove_of(self._admin, self._name, settings=self._settings)
            record = None if self._is_copy else state.database_record(self._admin, self._name)
            if record is not None and record.dropped is not None:
                self._before = database_settings.DatabaseSettings.from_dict(record.dropped)
            self._creation = self._like()
        except BaseException:
            self._around.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._around:
            self._filling.close()

    @property
    def dropped(self) -> bool:
        """Whether the database itself is missing, dropped by this restore or an earlier one."""
        return self._before is not None

    # Before -----------------------------------------------------------------------------------------------------------

    def _like(self) -> database_settings.Creation:
        """How the new database is created: like the one it replaces unless that is empty, else as the backup says."""
        if self._before is not None:
            return self._before.creation
        part, replaced = self._task.part, self._task.replaces
        if replaced is not None and (not replaced.empty or part is None or part.encoding is None):
            return database_settings.capture(self._admin, self._name).creation
        if part is None or part.encoding is None:
            return database_settings.Creation()
        return database_settings.Creation(
            encoding=part.encoding,
            provider=part.locale_provider,
            collate=part.collate,
            ctype=part.ctype,
            locale=part.icu_locale,
            icu_rules=part.icu_rules,
        )

    def make_room(self) -> None:
        """Drop the database, and record what its successor must get from it."""
        if self._options.on_connections == REFUSE:
            sessions.require_no_sessions(self._admin, self._name)
        record = state.database_record(self._admin, self._name)
        before = self._before or database_settings.capture(self._admin, self._name)
        # From here on there is no database to be backed up until the restore has succeeded, and its settings have no
        # other place.
        state.record_outcome(self._admin, self._name, OUTSTANDING, dropped=before.as_dict())
        self._task.reporter.stage(self._task.subject, "drop", "dropping the old database, to make room for the new one")
        try:
            staging.drop_with_subscriptions(self._admin, self._name, settings=self._settings)
        except PostgresError:
            with contextlib.suppress(PostgresError):
                state.put_back(self._admin, self._name, record)
            raise
        self._before = before

    # Filling ----------------------------------------------------------------------------------------------------------

    def _own_search_path(self) -> tuple[str, ...]:
        """The search_path that statements of the dump may rely on: the source's, or that of the replaced database."""
        backup = self._settings_of_backup
        found = None if backup is None else backup.search_path(backup.owner)
        if found is None:
            before = self._before
            if before is None and self._task.replaces is not None:
                before = database_settings.capture(self._admin, self._name)
            found = None if before is None else before.search_path(self._owner)
        return load.DEFAULT_SEARCH_PATH if found is None else tuple(database_settings.split_names(found))

    def _choose_encoding(self, source: Open) -> None:
        """Keep a new database from having no encoding only because initdb was run in the locale C.

        Where nothing else says the encoding, it is that of the dump's text.  A database that has contents keeps its
        encoding in any case.
        """
        part, replaced = self._task.part, self._task.replaces
        decided = self._before is not None or (replaced is not None and not replaced.empty)
        if decided or (part is not None and part.encoding is not None):
            return
        if (self._creation.encoding or staging.default_encoding(self._admin)) != "SQL_ASCII":
            return
        with self.limits.sources() as stack:
            _preamble, text = preamble.read(self._text(source(stack), stack))
            encoding = encoding_of(text.read(events.CHUNK))
        self.limits.text_bytes = 0  # it is read once more
        if encoding is not None and encoding.upper() != "SQL_ASCII":
            self._creation = dataclasses.replace(self._creation, encoding=encoding)
        if encoding is not None:
            outcome = f"it was created with {encoding}, in which the dump is written"
        else:
            outcome = (
                "so it has SQL_ASCII, in which the server checks and converts nothing; if that is wrong, create it "
                "with the right encoding and a table in it, then restore again"
            )
        self._warnings.append(
            f"the backup does not say the encoding of {self._name!r}, and new databases of this cluster have "
            f"SQL_ASCII: {outcome}"
        )

    def load(self, source: Open, /) -> Loaded:
        """Create the staging database and load the dump into it, as a role that can do nothing else."""
        # On record before it is reported: whoever sees the report finds the record.
        state.begin_restore(self._admin, self._id, database=self._name, stage=self._database, role=self._role)
        self._task.reporter.stage(self._task.subject, "load", f"loading {self._task.url}", total=self._task.size)
        loader_role.create_loader_role(
            self._admin, self._role, temp_file_limit=self._task.most(restoring.text_bytes_of(self._task.size))
        )
        self._choose_encoding(source)
        staging.create_staging(self._admin, self._database, loader=self._role, like=self._creation)
        enter = self._filling.enter_context
        enter(self.limits.bounded(self._settings, self._database, self._task.most))
        self._inside = enter(contextlib.closing(connect(self._settings, database=self._database, runs_scripts=True)))
        enter(self.limits.holding(self._inside))
        staging.open_staging(self._inside, self._role)
        self._loading = enter(contextlib.ExitStack())
        self._loader = self._loading.enter_context(
            contextlib.closing(
                loader_role.connect_loader(self._settings, self._admin, database=self._database, role=self._role)
            )
        )
        self._loading.enter_context(self.limits.holding(self._loader))
        with self.limits.sources() as stack:
            self._preamble, text = preamble.read(self._text(source(stack), stack))
            self._require_preamble()
            backup = self._settings_of_backup
            settings_text.set_for_rows(self._loader, backup)
            self._load_options = load.LoadOptions(
                skip_acl=self._options.skips_acl,
                role_map=self._options.role_map,
                owner=self._owner,
                source_owner=None if backup is None else backup.owner,
                forces_owner=self._options.forces_owner,
                grants_user=self._options.grant_app_user,
                search_path=self._own_search_path(),
                for_refreshes=settings_text.for_refreshes(backup),
                continues=self._options.continues,
                statement_seconds=self._options.statement_timeout.total_seconds(),
            )
            digests = tally.RowDigests(self._preamble.digest_key or b"")
            selection = Selection(self._options.tables) if self._options.tables else None
            self._definer = self._make_definer()
            self._administrator = extensions.StagingAdministrator(
                self._inside,
                loader=self._role,
                owner=self._owner,
                allowed=self._options.extensions,
                definer=self._definer,
                trusted_owners=frozenset(self._options.role_map.values()),
            )
            self._loaded = load.load(
                events.read(text, observe=digests.add),
                connection=self._loader,
                admin=self._administrator,
                options=self._load_options,
                again=self._reader_again(source),
                selection=selection,
            )
            left_out = {}
            if selection is not None:
                selection.require(digests.rows())
                left_out = {name: rows for name, rows in digests.rows().items() if name not in selection.written}
        return Loaded(
            self._loaded.rows,
            {} if self._preamble.digest_key is None else digests.result(),
            tuple(map(str, self._loaded.skipped)),
            failed=self._loaded.failed,
            failed_tables=self._loaded.failed_tables,
            left_out=left_out,
        )

    def _make_definer(self) -> definer.Definer:
        """What creates the objects that only a superuser may create: of a signed backup of this database, or if asked.

        Whoever made the list of an unsigned backup chose what a superuser creates.
        """
        part, settings = self._task.part, self._settings_of_backup
        objects = self._preamble.objects
        if not (self._options.privileged or self._task.proven):
            objects, why = None, _UNSIGNED.format(name_for_errors("restore", "privileged"))
        else:
            why = _NO_LIST if objects is None else _NOT_LISTED
        role_map = dict(self._options.role_map)
        if settings is not None and self._options.forces_owner:
            role_map.setdefault(settings.owner, self._owner)
        return definer.Definer(
            self._inside,
            objects=objects,
            why_undefined=why,
            loader=self._role,
            owner=self._owner,
            role_map=role_map,
            roles=(part.roles or ()) if part is not None and self._task.proven else (),
        )

    def finish(self) -> tuple[str, ...]:
        """Gather statistics, shut the loader out and hand everything over to the owner."""
        loaded, defining = t.cast(load.LoadResult, self._loaded), t.cast(definer.Definer, self._definer)
        self._task.reporter.stage(self._task.subject, "analyze", "gathering statistics")
        not_analyzed = load.analyze(self._loader, t.cast(load.LoadOptions, self._load_options).written_path)
        self._loading.close()
        loader_role.shut_out(self._inside, self._role)
        staging.close_staging(self._inside, self._database)
        staging.roll_back_prepared(self._inside)
        self._task.reporter.stage(self._task.subject, "own", f"handing everything over to {self._owner}")
        taken = ownership.take_over(
            self._inside,
            owner=self._owner,
            loader=self._role,
            owner_changes=() if self._options.forces_owner else loaded.owner_changes,
            trusted_owners=frozenset(self._options.role_map.values()),
            keep=defining.kept,
        )
        if self._options.grant_app_user:
            ownership.grant_all(self._inside, self._owner, owns_database=True)
        if self._administrator.defers_cron:
            cron.keep(self._inside)
        if self._options.set_search_path:
            self._search_path = list(self._options.search_path) or ownership.choose_search_path(self._inside)
        defined = defining.finish()
        self._filling.close()
        return (*self._warnings, *loaded.warnings, *not_analyzed, *taken.warnings, *defined)

    # The swap ---------------------------------------------------------------------------------------------------------

    def swap(self, origin: RestoredFrom, /) -> Swapped:
        """Swap the staging database in, in one transaction with all that is recorded."""
        self._held.check()
        self._task.reporter.stage(self._task.subject, "swap", "swapping the restored database in")

        warnings: list[str] = []

        def record(kept: swap.Kept | None) -> None:
            if kept is not None and self._is_copy:
                # Somebody may have created a database of this name since the plan.
                copies.require_own(self._admin, self._name, called=kept.name)
            previous = state.database_record(self._admin, self._name)
            self._record_origin(origin)
            # Not before: what the replaced database had is carried over in this transaction.
            warnings[:] = self._give_settings()
            if self._search_path is not None and not self._has_search_path():
                ownership.set_search_path(self._admin, database=self._name, role=self._owner, path=self._search_path)
            if kept is not None:
                state.record_replaced(
                    self._admin,
                    kept.name,
                    database=self._name,
                    keep=datetime.timedelta(0) if self._is_copy else self._options.keep_replaced,
                    oid=kept.oid,
                    before=state.Before(kept.settings.as_dict(), previous),
                )
            # Right before the commit: another run may be at work by now.
            self._held.check()

        with contextlib.closing(connect(self._settings)) as helper:
            swapped = swap.swap(
                self._admin,
                helper,
                database=self._name,
                stage=self._database,
                keep_as=self._kept_name,
                owner=self._owner,
                record=record,
                on_connections=self._options.on_connections,
                settings=self._before,
                carries=not self._is_copy,
                public_connect=self._options.public_connect,
            )
        self._swapped = True
        return Swapped(swapped.kept, (*swapped.warnings, *warnings))

    def _record_origin(self, origin: RestoredFrom) -> None:
        copy_of = self._task.copy_of
        if copy_of is None:
            state.record_outcome(self._admin, self._name, RESTORED, restored_from=origin)
            state.forget_copies(self._admin, [self._name])
            return
        keep = self._options.drop_after
        state.record_copy(self._admin, self._name, database=copy_of, restored_from=origin, keep=keep)

    def _give_settings(self) -> list[str]:
        """Give the new database the settings in the backup, unless it has those of the database that it replaces."""
        settings, replaces = self._settings_of_backup, self._task.replaces
        if settings is None or self._before is not None or not (replaces is None or replaces.empty):
            return []
        warnings = []
        if not self._options.public_connect:
            narrowed = database_settings.without_public_connect(settings)
            if narrowed != settings and not self._is_copy:
                warnings.append(swap.public_connect_left_out(self._name))
            settings = narrowed
        warnings += database_settings.apply_foreign(
            self._admin,
            self._name,
            settings,
            role_map=self._options.role_map,
            as_owner=not self._task.proven,
        )
        return warnings

    def _has_search_path(self) -> bool:
        """Whether the source had chosen a search_path, and the new database has one, so that none is to be found."""
        settings = self._settings_of_backup
        if self._options.search_path or settings is None:
            return False
        present = database_settings.capture(self._admin, self._name)
        return settings.search_path(settings.owner) is not None and present.search_path(self._owner) is not None

    def settle(self, swapped: Swapped, /) -> Swapped:
        """Remove the loader's role, the replaced database if nobody wants it, and the roles that were mapped away."""
        warnings: list[str] = []

        @contextlib.contextmanager
        def warned() -> t.Iterator[None]:
            try:
                yield
            except PostgresError as exc:
                warnings.append(str(exc))

        kept = swapped.kept
        if self._administrator.defers_cron and not self._is_copy:
            with warned(), contextlib.closing(connect(self._settings, database=self._name)) as inside:
                warnings += cron.finish(inside, owner=self._owner)
        with warned():
            self.discard()
        with warned():
            if kept is not None and self._is_disposable(kept):
                staging.drop_with_subscriptions(self._admin, kept, settings=self._settings)
                state.forget_replaced(self._admin, kept)
                kept = None
        with warned():
            warnings += self._drop_mapped_roles()
        return Swapped(kept, tuple(warnings))

    def _is_disposable(self, kept: str) -> bool:
        """Whether nobody wants the replaced database any more: it isn't to be kept, is an earlier copy, or is empty."""
        if self._is_copy or not self._options.keep_replaced:
            return True
        replaced = self._task.replaces
        if replaced is None or not replaced.empty:
            return False
        # Somebody may have begun to use it while the backup was loaded.
        with contextlib.closing(connect(self._settings, database=kept)) as conn:
            return facts.is_empty(conn)

    def _drop_mapped_roles(self) -> t.Sequence[str]:
        mapping = self._options.role_map
        # Beside a copy, the database itself may still use them.
        if not mapping or not self._options.drop_mapped_roles or self._is_copy:
            return ()
        protected = {*self._options.protected_roles, *mapping.values(), self._owner}
        return ownership.drop_mapped_roles(self._admin, mapping, protected=protected).warnings

    def discard(self) -> None:
        """Remove the staging database and the loader's role, and then the record of both."""
        self._filling.close()
        leftovers.remove(self._admin, self._database, self._role, self._id, settings=self._settings)
        if self._definer is not None and not self._swapped:
            self._definer.drop_roles(self._admin)
