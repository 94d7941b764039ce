# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Note that this module util is PRIVATE to the collection.

"""The only bridge between Ansible and the engine: options in, results out, errors to ``fail_json``."""

from __future__ import annotations

import pathlib
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._engine import outcome, settings
from ._engine.domain import databases as databases_json
from ._engine.domain import suggestions
from ._engine.errors import EngineError
from ._engine.printing import harmless, printable, printable_name
from ._engine.streams import age

if t.TYPE_CHECKING:
    from ._engine.domain.databases import Databases
    from ._engine.profile import Profile


#: What Ansible says of unknown options.
_UNSUPPORTED = re.compile(
    r"Unsupported parameters for \(.*\) module: (?P<unknown>.+)\. Supported parameters include: (?P<known>.+)\."
)

# Options ------------------------------------------------------------------------------------------------------------


class _Module(AnsibleModule):
    """A module that hides secrets where Ansible alone would not.

    - If O(databases) is not a list of dictionaries, for example JSON text, Ansible recognizes no secret, not even those
      of other options, and would return all of them as the invocation.
    - Ansible writes lists to the system's log as Python prints them, and searches that text for secrets: one that
      contains a quote or a backslash would appear in clear.
    """

    _options_read = False

    def __init__(self, **options: t.Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._options_read = True

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        """Fail without repeating options that could not be read."""
        if not self._options_read:
            kwargs["invocation"] = {}
            # Ansible removes what it cannot read, and quotes it in its message.
            given = self.params.get("databases")
            readable = given and all(isinstance(entry, t.Mapping) for entry in given)
            # Messages about options that are missing or unknown quote no value.
            quotes = not (msg.startswith("one of the following is required") or _UNSUPPORTED.fullmatch(msg))
            if "databases" in self.params and quotes and not readable:
                msg = "databases is not a list of dictionaries; the filter from_json converts JSON text"
            msg = _suggesting(msg)
        super().fail_json(msg=msg, **kwargs)

    def warn(self, warning: str, *args: t.Any, **kwargs: t.Any) -> None:
        """Warn; the text may quote what others wrote."""
        super().warn(printable(warning), *args, **kwargs)  # type: ignore[no-untyped-call]

    def log(self, msg: str, log_args: t.Mapping[str, t.Any] | None = None) -> None:
        """Write to the system's log: that the module was invoked, but not its arguments."""
        super().log("Invoked" if log_args else msg)  # type: ignore[no-untyped-call]


def _suggesting(msg: str) -> str:
    """A message of Ansible about unknown options, with the nearest known ones."""
    match = _UNSUPPORTED.fullmatch(msg)
    if match is None:
        return msg
    known = match["known"].split(", ")
    return "; ".join(
        suggestions.unknown(name.rpartition(".")[2], known, "an option") for name in match["unknown"].split(", ")
    )


class ArgumentSpec:
    """Options of a module, the rules between them, and the libraries that they need.

    :param parts: specifications whose options, rules and libraries are included.
    :param libraries: names of the Python libraries that the options need.
    :param options: the module's own, as :class:`AnsibleModule` takes them.
    """

    def __init__(
        self,
        *parts: ArgumentSpec,
        libraries: t.Sequence[str] = (),
        mutually_exclusive: t.Sequence[t.Sequence[str]] = (),
        required_one_of: t.Sequence[t.Sequence[str]] = (),
        required_together: t.Sequence[t.Sequence[str]] = (),
        required_by: t.Mapping[str, t.Sequence[str]] | None = None,
        **options: t.Mapping[str, t.Any],
    ) -> None:
        self.options: dict[str, t.Mapping[str, t.Any]] = {}
        self.libraries: list[str] = []
        self.mutually_exclusive: list[t.Sequence[str]] = []
        self.required_one_of: list[t.Sequence[str]] = []
        self.required_together: list[t.Sequence[str]] = []
        self.required_by: dict[str, t.Sequence[str]] = {}
        for part in parts:
            self.options.update(part.options)
            self.libraries += part.libraries
            self.mutually_exclusive += part.mutually_exclusive
            self.required_one_of += part.required_one_of
            self.required_together += part.required_together
            self.required_by.update(part.required_by)
        self.options.update(options)
        self.libraries += libraries
        self.mutually_exclusive += mutually_exclusive
        self.required_one_of += required_one_of
        self.required_together += required_together
        self.required_by.update(required_by or {})

    def module(self, *, supports_check_mode: bool) -> AnsibleModule:
        """The module with its options; it fails if they are invalid, or if a library is missing on the host."""
        module = _Module(
            argument_spec=self.options,
            mutually_exclusive=self.mutually_exclusive,
            required_one_of=self.required_one_of,
            required_together=self.required_together,
            required_by=self.required_by,
            supports_check_mode=supports_check_mode,
        )
        require_libraries(module, self.libraries)
        return module


#: Libraries that the options of a section need.
_LIBRARIES = {"connection": ["psycopg2"], "store": ["boto3", "isal", "xxhash", "zstandard"]}

#: Fragment ``databases``.  The engine validates the entries, and names every error at once.
DATABASES = ArgumentSpec(
    libraries=["pyrage"],
    required_one_of=[("databases", "config")],
    databases={
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str"},
            "user": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "backup_age_public_key": {"type": "raw", "no_log": False},
            "backup_age_private_key": {"type": "str", "no_log": True},
            "restore_latest": {"type": "bool", "default": True},
            "restore_dump_path": {"type": "str"},
            "backup_prefix": {"type": "str"},
            "backup_signers": {"type": "list", "elements": "str"},
        },
    },
)


def settings_of(module: str) -> ArgumentSpec:
    """The options of a module that are settings, and ``config``, below which the rest of them is found.

    None of them has a default here: what is not given comes from the profile, and from there the default.

    :param module: its name.
    """
    sections = settings.MODULES[module]
    store = "store" in sections
    spec = ArgumentSpec(
        libraries=[name for section in sections for name in _LIBRARIES.get(section, ())],
        mutually_exclusive=[("bucket", "directory")] if store else [],
        required_together=[("access_key_id", "secret_access_key")] if store else [],
        required_by={"session_token": ("access_key_id",)} if store else {},
        config={"type": "path"},  # fragment ``profile``
    )
    spec.options.update((name, _option(row)) for name, row in _rows(module).items())
    return spec


def _rows(module: str) -> dict[str, settings.Setting]:
    sections = settings.MODULES[module]
    return {row.option: row for row in settings.TABLE if row.section in sections and row.option is not None}


def _option(row: settings.Setting) -> dict[str, t.Any]:
    option: dict[str, t.Any] = {"type": row.type.ansible}
    if row.type.elements is not None:
        option["elements"] = row.type.elements
    if row.choices:
        option["choices"] = list(row.choices)
    if row.secret:
        option["no_log"] = True
    elif "key" in row.name:  # Ansible takes it for a secret by its name
        option["no_log"] = False
    return option


def require_libraries(module: AnsibleModule, names: t.Iterable[str]) -> None:
    """Fail, naming all of them, if libraries of *names* are missing.  Boto3 is only needed for a bucket."""
    params = module.params
    # Where a profile may name a directory, the store reports a missing boto3 itself.
    without = params.get("directory") or (params.get("config") and not params.get("bucket"))
    unneeded = {"boto3"} if without else set()
    if params.get("cluster_age_private_key", "") is None:
        # A bootstrap reads from a store only with this key.
        unneeded.update(_LIBRARIES["store"])
    needed = set(names) - unneeded
    missing = sorted(name for name in needed if not _can_import(name))
    if missing:
        module.fail_json(msg=missing_required_lib(", ".join(missing), reason="by this module"))


def _can_import(name: str) -> bool:
    # On demand: boto3 takes longer to import than all other libraries, and some modules do not need it.
    try:
        __import__(name)
    except ImportError:
        return False
    return True


# From options to the engine -----------------------------------------------------------------------------------------


def profile(module: AnsibleModule, name: str) -> Profile:
    """The profile that O(config) names, with the options of the task on top; without O(config), the options alone.

    :param name: of the module.
    :raises ConfigurationError: naming the option.
    """
    # Not at the top: modules without settings do not need the rest of the engine.
    from ._engine.profile import Profile

    directory = module.params["config"]
    # In check mode, the role that writes it may only have planned to.
    planned = module.check_mode and directory and not (pathlib.Path(directory) / "db.env").exists()
    base = Profile.read(directory) if directory and not planned else Profile.empty(directory or settings.DIRECTORY)
    for warning in base.warnings:
        module.warn(warning)
    return base.over(settings.read(module.params, _rows(name)))


def databases(module: AnsibleModule, host: Profile, *, private: bool) -> Databases:
    """The list that O(databases) gives, or that of *host*; its warnings are reported.

    :param private: whether private keys may be present.
    :raises InvalidDatabases: with every error of the list.
    """
    given = module.params["databases"]
    if given is None:
        found = host.databases()
    else:
        found = databases_json.parse(
            given,
            rules=age,
            private=private,
            maintenance_database=host.values.get("connection", "maintenance_database"),
            name="databases",
        )
    for warning in found.warnings:
        module.warn(warning)
    return found


# From the engine to results -----------------------------------------------------------------------------------------


def summed_up(summary: outcome.Summary, *statuses: str) -> dict[str, t.Any]:
    """The result of work on many databases, which fails if one of them failed.

    :param statuses: the use case's words for success; the first of them counts as a change.
    """
    result: dict[str, t.Any] = {
        "changed": any(one.status == statuses[0] for one in summary.outcomes),
        "databases": [one.as_dict() for one in summary.outcomes],
        "summary": summary.line(*statuses),
    }
    if summary.warnings:
        result["warnings"] = list(summary.warnings)
    if summary.failed:
        texts = [f"{printable_name(one.database)}: {one.error}" for one in summary.failed]
        result["failed"] = True
        result["msg"] = f"{len(texts)} of {len(summary.outcomes)} databases failed: " + "; ".join(texts)
    return result


def run(module: AnsibleModule, work: t.Callable[[AnsibleModule], dict[str, t.Any]]) -> t.NoReturn:
    """Do the *work* and end the module with its result, or with its error.

    The error is reported in the engine's words.  Ansible never sees the exception: its text, or that of its cause, may
    contain what must not be shown.
    """
    error: EngineError
    succeed: t.Callable[..., t.NoReturn] = module.exit_json
    fail: t.Callable[..., t.NoReturn] = module.fail_json
    try:
        result = work(module)
    except EngineError as exc:
        error = exc
    except Exception as exc:  # noqa: BLE001 - see above
        error = outcome.unexpected(exc)
    else:
        # Ansible, or the next task, shows the result on a terminal.
        result = harmless(result)
        if result.pop("failed", False):
            fail(**result)
        succeed(**result)
    # Not in the except clause: Ansible would add the traceback of the exception that is being handled.
    fail(msg=str(error), error=error.as_dict())
