# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Note that this module util is PRIVATE to the collection.

"""The one bridge between Ansible and the engine: options in, results out, errors to ``fail_json``."""

from __future__ import annotations

import platform
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._engine import outcome
from ._engine.domain import databases as databases_json
from ._engine.domain import trust as trusting
from ._engine.domain.databases import Database, Databases
from ._engine.domain.secret import Secret
from ._engine.errors import EngineError
from ._engine.printing import printable, printable_name
from ._engine.signing import keys as signing_keys
from ._engine.sources.postgresql.connection import ConnectionSettings
from ._engine.streams import age

if t.TYPE_CHECKING:
    from ._engine.stores.base import Store


# Options ------------------------------------------------------------------------------------------------------------


class _Module(AnsibleModule):
    """A module that keeps its secrets where Ansible by itself doesn't.

    - Where O(databases) is no list of dictionaries, as when it is given as JSON text, Ansible doesn't know any secret,
      not even those of other options, and would repeat all of them as what the module was invoked with.
    - In the system's log it writes lists as Python does, and looks for secrets in that: one with a quote or a backslash
      in it stands there in clear.
    """

    _options_read = False

    def __init__(self, **options: t.Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._options_read = True

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        """Fail; options that couldn't be read are not repeated."""
        if not self._options_read:
            kwargs["invocation"] = {}
            # Ansible has taken out what it couldn't read, and quotes it.
            given = self.params.get("databases")
            if "databases" in self.params and not (given and all(isinstance(entry, t.Mapping) for entry in given)):
                msg = "databases is no list of dictionaries. From JSON text it comes by the filter from_json"
        super().fail_json(msg=msg, **kwargs)

    def warn(self, warning: str, *args: t.Any, **kwargs: t.Any) -> None:
        """Warn; the text may repeat what others wrote."""
        super().warn(printable(warning), *args, **kwargs)  # type: ignore[no-untyped-call]

    def log(self, msg: str, log_args: t.Mapping[str, t.Any] | None = None) -> None:
        """Tell the system's log; that the module was invoked, but not with what."""
        super().log("Invoked" if log_args else msg)  # type: ignore[no-untyped-call]


class ArgumentSpec:
    """Options of a module, the rules between them, and the libraries that they need.

    :param parts: specifications whose options, rules and libraries are taken over.
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
        """The module with its options read; it has failed where they, or the host's libraries, aren't as needed."""
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


#: Fragment ``connection``.
CONNECTION = ArgumentSpec(
    libraries=["psycopg2"],
    login_host={"type": "str", "default": "/var/run/postgresql"},
    login_port={"type": "int", "default": 5432},
    login_user={"type": "str", "default": "postgres"},
    login_password={"type": "str", "no_log": True},
    ssl_mode={"type": "str", "choices": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]},
    maintenance_db={"type": "str", "default": "postgres"},
)

#: Fragment ``store``.
STORE = ArgumentSpec(
    libraries=["boto3", "isal", "xxhash", "zstandard"],
    mutually_exclusive=[("bucket", "directory")],
    required_one_of=[("bucket", "directory")],
    required_together=[("access_key_id", "secret_access_key")],
    required_by={"session_token": ("access_key_id",)},
    bucket={"type": "str"},
    endpoint={"type": "str"},
    region={"type": "str"},
    access_key_id={"type": "str", "no_log": False},
    secret_access_key={"type": "str", "no_log": True},
    session_token={"type": "str", "no_log": True},
    ca_bundle={"type": "path"},
    addressing_style={"type": "str", "choices": ["auto", "path", "virtual"], "default": "auto"},
    checksums={"type": "str", "choices": ["auto", "when_supported", "when_required"], "default": "auto"},
    directory={"type": "path"},
)

#: Fragment ``databases``.  What is needed is not said here but judged by the engine, which names every fault at once.
DATABASES = ArgumentSpec(
    libraries=["pyrage"],
    databases={
        "type": "list",
        "elements": "dict",
        "required": True,
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

#: Fragment ``trust``.
TRUST = ArgumentSpec(
    signing_name={"type": "str"},
    signing_key={"type": "path", "default": signing_keys.SIGNING_KEY, "no_log": False},
    allowed_signers={"type": "raw"},
    allowed_signers_file={"type": "path", "default": signing_keys.ALLOWED_SIGNERS},
    revoked_keys={"type": "raw", "no_log": False},
    revoked_keys_file={"type": "path", "default": signing_keys.REVOKED_KEYS, "no_log": False},
    signers={"type": "dict", "default": {}},
)


def require_libraries(module: AnsibleModule, names: t.Iterable[str]) -> None:
    """Fail, naming all of them, where libraries of *names* are missing.  Boto3 is not needed for a directory."""
    needed = {name for name in names if name != "boto3" or not module.params.get("directory")}
    missing = sorted(name for name in needed if not _can_import(name))
    if missing:
        module.fail_json(msg=missing_required_lib(", ".join(missing), reason="by this module"))


def _can_import(name: str) -> bool:
    # Only when asked: a module that needs no boto3 must not wait for it, it takes longer to import than all the others.
    try:
        __import__(name)
    except ImportError:
        return False
    return True


# From options to the engine -----------------------------------------------------------------------------------------


def connection(module: AnsibleModule) -> ConnectionSettings:
    """How the server is reached, by the options of :data:`CONNECTION`."""
    params = module.params
    return ConnectionSettings(
        host=params["login_host"],
        port=params["login_port"],
        user=params["login_user"],
        password=_secret(params["login_password"]),
        maintenance_database=params["maintenance_db"],
        sslmode=params["ssl_mode"],
    )


def store(module: AnsibleModule) -> Store:
    """Where backups lie, by the options of :data:`STORE`."""
    # Here for the sake of the modules without a store: boto3 comes with it.
    from ._engine.stores import registry
    from ._engine.stores.base import DirectorySettings, S3Settings

    params = module.params
    settings: S3Settings | DirectorySettings
    if params["directory"]:
        settings = DirectorySettings(path=params["directory"])
    else:
        settings = S3Settings(
            bucket=params["bucket"],
            endpoint=params["endpoint"] or None,
            region=params["region"] or None,
            access_key_id=params["access_key_id"] or None,
            secret_access_key=_secret(params["secret_access_key"]),
            session_token=_secret(params["session_token"]),
            ca_bundle=params["ca_bundle"] or None,
            addressing_style=params["addressing_style"],
            checksums=params["checksums"],
        )
    return registry.open_store(settings)


def databases(module: AnsibleModule, *, private: bool) -> Databases:
    """The list of :data:`DATABASES`, valid; what is to be said about it is said.

    :param private: whether private keys may be present.
    :raises InvalidDatabases: with every fault of the list.
    """
    found = databases_json.parse(
        module.params["databases"],
        rules=age,
        private=private,
        maintenance_database=module.params.get("maintenance_db") or "postgres",
    )
    for warning in found.warnings:
        module.warn(warning)
    return found


def signing_name(module: AnsibleModule) -> str:
    """The name that this host signs under, by the options of :data:`TRUST`."""
    return module.params["signing_name"] or platform.node()


def trust(module: AnsibleModule) -> trusting.Trust:
    """Whose backups are accepted, by the options of :data:`TRUST`."""
    params = module.params

    def keys(name: str) -> str:
        given = params[name]
        return signing_keys.read_keys(params[f"{name}_file"]) if given is None else trusting.key_lines(given, name=name)

    return trusting.Trust(
        allowed_signers=keys("allowed_signers"),
        revoked_keys=keys("revoked_keys"),
        name=signing_name(module),
        own_key=signing_keys.own_public_key(params["signing_key"]),
        signers=trusting.signers(params["signers"], name="signers"),
    )


def selected(found: Databases, names: t.Sequence[str] | None) -> tuple[Database, ...]:
    """The databases with *names*, each once, or all of them.

    :raises ConfigurationError: for a name that the list hasn't.
    """
    if names is None:
        return found.entries
    return tuple(found.named(name) for name in dict.fromkeys(names))


def _secret(text: str | None) -> Secret | None:
    return Secret(text) if text else None


# From the engine to results -----------------------------------------------------------------------------------------


def summed_up(summary: outcome.Summary, *statuses: str) -> dict[str, t.Any]:
    """The result of work on many databases; it is a failure where one of them failed.

    :param statuses: the use case's words for success; one of them in the first place counts as a change.
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

    An error is told in the engine's words.  Ansible never sees the exception: its text, or that of one beneath it,
    may hold what must not be shown.
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
        if result.pop("failed", False):
            fail(**result)
        succeed(**result)
    # Not in the except clause: there Ansible would add the traceback of what it finds pending.
    fail(msg=str(error), error=error.as_dict())
