# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Every setting, once.

The command line, the environment, ``db.env``, the options of modules, the variables of the inventory and the reference
all come from :data:`TABLE`.  To add a switch, add a row here and write the code that obeys it; then ``make generate``.

The names follow one rule.  A setting ``name`` of a section ``restore`` is

- ``DB_RESTORE_NAME`` in ``db.env``, and for a restore in the environment as well, which overrides ``db.env``,
- ``DB_RESTORE_NAME_FILE`` beside that if it is secret: a file that holds the value,
- ``--name`` of the command ``restore``, which overrides both,
- ``name`` as an option of the modules of that section,
- ``runtime_restore_name`` as a variable of role ``runtime``, which writes ``db.env``, and
- ``infrazero_restore_name`` as a variable of the inventory for all roles and playbooks.

Names of the section about the connection have ``DB_`` and ``db_`` in front, and options are those of other collections.
Of the sections about a cluster, names have the word ``cluster``.  Older names that people have in their files stay as
they are; such a row says so.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import secretfiles
from .domain import trust
from .domain import values as of
from .domain.nodes import ANY, PRIMARY, STANDBY
from .domain.restoring import CONTINUE, REFUSE, REPLACE, STOP, SWAP, TERMINATE
from .errors import ConfigurationError
from .streams.compression import METHODS

#: Sections, each with its title.
SECTIONS: t.Mapping[str, str] = {
    "connection": "Connection to the server",
    "store": "Where backups are stored",
    "signing": "Signing keys, and whose backups are accepted",
    "backup": "Backups",
    "restore": "Restores",
    "cluster": "Where the roles of the cluster are backed up",
    "cluster_backup": "Backups of the roles of the cluster",
    "cluster_restore": "Restores of the roles of a cluster",
}

#: Sections whose options each module takes.
MODULES: t.Mapping[str, tuple[str, ...]] = {
    "age_backup": ("connection", "store", "signing", "backup", "cluster", "cluster_backup"),
    "backup_info": ("store",),
    "infisical_admin_token": ("store",),
    "pg_cluster_info": ("connection",),
    "pg_db_bootstrap": ("connection", "store", "signing", "cluster", "cluster_restore"),
    "s3_manifest_restore": ("connection", "store", "signing", "restore"),
    "store_probe": ("store",),
}

#: The configuration directory of a host, and the key files of one, relative to it.
DIRECTORY = "/etc/infrazero"
SIGNING_KEY = "signing/id_ed25519"
ALLOWED_SIGNERS = "allowed_signers"
REVOKED_KEYS = "revoked_keys"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting.

    :param section: a key of :data:`SECTIONS`.
    :param name: what options of modules and fields of option objects are called.
    :param type: how it is written and read.
    :param help: what it does, for the command line and all references: an imperative or a noun phrase, without a full
        stop.
    :param details: further sentences for the references.
    :param default: the value where nothing sets it, as *type* reads it; ``None``: nothing, see *default_text*.
    :param default_text: describes the default where it is not a value.
    :param choices: the words that it may be, where *type* is a choice.
    :param environment: its name in ``db.env`` and the environment; ``None``: it has none.
    :param stored: whether ``db.env`` may hold it; otherwise it is for one run only.
    :param flag: its name on the command line; ``None``: it has none.
    :param flag_values: further flags, each of which stands for a value.
    :param repeatable: whether the flag may be given several times.
    :param option: its name as an option of modules; ``None``: it has none.
    :param variable: its name as a variable after ``runtime_`` and ``infrazero_``; ``None``: it has none.
    :param added: the version that brought the option of modules.
    """

    section: str
    name: str
    type: of.Type
    help: str
    details: tuple[str, ...] = ()
    default: t.Any = None
    default_text: str = ""
    choices: tuple[str, ...] = ()
    environment: str | None = None
    stored: bool = True
    flag: str | None = None
    flag_values: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    repeatable: bool = False
    option: str | None = None
    variable: str | None = None
    added: str = "0.1.0"

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it."""
        return self.section, self.name

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.type is of.SECRET

    @property
    def default_written(self) -> str:
        """The default as people write it; ``""``: there is none."""
        if self.default is None or self.type.write is None:
            return self.default_text
        return self.type.written(self.type.read(self.default, self.name), self.name) or self.default_text


def _row(section: str, name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    """A row whose names follow the rule, but for those that are given."""
    return Setting(
        section,
        name,
        kind,
        text,
        details,
        **{
            "environment": f"DB_{section}_{name}".upper(),
            "option": name,
            "variable": f"{section}_{name}" if more.get("stored", True) else None,
            **more,
        },
    )


def _connection(name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    return _row("connection", name, kind, text, *details, **{"environment": None, "variable": None, **more})


def _store(name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    names = {"environment": f"S3_{name}".upper(), "variable": f"s3_{name}"}
    return _row("store", name, kind, text, *details, **{**names, **more})


def _signing(name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    names = {"environment": None, "variable": None, "added": "0.2.0"}
    return _row("signing", name, kind, text, *details, **{**names, **more})


def _backup(name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    return _row("backup", name, kind, text, *details, **{"flag": f"--{name}".replace("_", "-"), **more})


def _restore(name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    return _row("restore", name, kind, text, *details, **{"flag": f"--{name}".replace("_", "-"), **more})


def _cluster(section: str, name: str, kind: of.Type, text: str, *details: str, **more: t.Any) -> Setting:
    names = {"environment": f"DB_CLUSTER_{name}".upper(), "option": f"cluster_{name}", "variable": f"cluster_{name}"}
    return _row(section, name, kind, text, *details, **{**names, "added": "0.2.0", **more})


def _chosen(
    make: t.Callable[..., Setting], name: str, choices: t.Sequence[str], text: str, *details: str, **more: t.Any
) -> Setting:
    return make(name, of.choice(*choices), text, *details, choices=tuple(choices), **more)


TABLE: tuple[Setting, ...] = (
    _connection(
        "host",
        of.TEXT,
        "host name or address of the server, or the directory of its socket (an absolute path)",
        default="/var/run/postgresql",
        environment="DB_HOST",
        option="login_host",
        variable="db_host",
    ),
    _connection(
        "port",
        of.integer(1, 65535, metavar="PORT"),
        "port of the server, which is part of the socket's name, too",
        default=5432,
        environment="DB_PORT",
        option="login_port",
        variable="db_port",
    ),
    _connection(
        "user",
        of.TEXT,
        "role to log in as: a superuser, or one with fewer rights on a server that gives you no superuser",
        "Through the socket, the server usually asks for no password but for the operating system user of the same"
        " name, so run the task with C(become_user=postgres).",
        default="postgres",
        environment="DB_USER",
        option="login_user",
        variable="db_user",
    ),
    _connection(
        "password",
        of.SECRET,
        "password of O(login_user), where the server asks for one",
        "C(~/.pgpass) and the environment variables of libpq are never used.",
        environment="DB_PASSWORD",
        option="login_password",
        variable="db_password",
    ),
    _chosen(
        _connection,
        "sslmode",
        ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "how TLS is required and verified",
        "Over a network, only V(verify-full) proves that the server is the right one; with anything else, backups and"
        " restores warn.",
        default_text="what libpq does: V(prefer), which verifies nothing",
        environment="DB_SSLMODE",
        option="ssl_mode",
        variable="db_sslmode",
    ),
    _connection(
        "sslrootcert",
        of.PATH,
        "file with the certificates of the authorities that the server's certificate is verified against",
        default_text="C(~/.postgresql/root.crt) of the operating system user",
        environment="DB_SSLROOTCERT",
        option="ssl_rootcert",
        variable="db_sslrootcert",
        added="0.2.0",
    ),
    _connection(
        "maintenance_database",
        of.TEXT,
        "database in which the collection keeps its state (schema C(infrazero)) and its locks",
        "It is never backed up, restored or replaced.",
        default="postgres",
        environment="DB_MAINTENANCE_DATABASE",
        option="maintenance_db",
        variable="db_maintenance_database",
    ),
    _store(
        "bucket",
        of.TEXT,
        "S3 bucket that holds the backups",
        "Either this or O(directory) is needed.",
        environment="DB_BACKUP_BUCKET",
    ),
    _store(
        "endpoint",
        of.TEXT,
        "URL of the S3 service; without a scheme, C(https://) is put in front",
        default_text="Amazon S3",
    ),
    _store("region", of.TEXT, "region of the bucket"),
    _store(
        "access_key_id",
        of.TEXT,
        "access key",
        default_text="boto3's own chain of credentials: its environment variables, its files, the role of the machine",
    ),
    _store("secret_access_key", of.SECRET, "secret that belongs to O(access_key_id)"),
    _store(
        "session_token",
        of.SECRET,
        "session token that belongs to O(access_key_id), where the credentials are temporary",
        environment=None,
        variable=None,
    ),
    _store(
        "ca_bundle",
        of.PATH,
        "file with the certificates of the authorities that the S3 service's certificate is verified against",
        "Certificates are always verified.",
        default_text="the system's authorities",
    ),
    _chosen(
        _store,
        "addressing_style",
        ("auto", "path", "virtual"),
        "whether the bucket is in the path of a URL or in its host name",
        default="auto",
    ),
    _chosen(
        _store,
        "checksums",
        ("auto", "when_supported", "when_required"),
        "whether uploads carry the newer checksums of S3, which older compatible services refuse",
        "With V(auto) the service is probed.",
        default="auto",
    ),
    _store(
        "directory",
        of.PATH,
        "local directory that holds the backups, instead of a bucket",
        "It must exist: a file system that is not mounted would otherwise look like a store without backups.",
        "Either this or O(bucket) is needed. Options of a bucket mean nothing with it.",
        environment="DB_BACKUP_DIRECTORY",
        variable="backup_directory",
    ),
    _signing(
        "signing_name",
        of.TEXT,
        "name that this host signs under, and whose backups it accepts as its own: its name in the inventory",
        default_text="the host's node name (C(uname -n))",
        environment="DB_SIGNING_NAME",
        variable="signing_name",
    ),
    _signing(
        "signing_key",
        of.PATH,
        "private key of this host, which signs the manifests of backups: an OpenSSH key (Ed25519) without a passphrase",
        "Without the default file they are not signed, and a warning says so. A file that is named must exist.",
        "What this key has signed is accepted without a line in O(allowed_signers). For that, the public key in the"
        " file beside it, which ends with C(.pub), is read.",
        default_text=f"C({SIGNING_KEY}) in the configuration directory",
        environment="DB_SIGNING_KEY",
    ),
    _signing(
        "allowed_signers",
        of.KEY_LINES,
        "keys of hosts: the text, or a list of the lines, of an C(allowed_signers) file of OpenSSH",
        "The name at the beginning of a line is the host that a manifest names. A line alone does not make a host's"
        " backups acceptable; see O(signers).",
        default_text="what O(allowed_signers_file) holds",
    ),
    _signing(
        "allowed_signers_file",
        of.PATH,
        "C(allowed_signers) file on the host",
        default_text=f"C({ALLOWED_SIGNERS}) in the configuration directory",
    ),
    _signing(
        "revoked_keys",
        of.KEY_LINES,
        "public keys that are no longer trusted, as a text or as a list of lines",
        default_text="what O(revoked_keys_file) holds",
    ),
    _signing(
        "revoked_keys_file",
        of.PATH,
        "file of revoked keys on the host, if there is one",
        default_text=f"C({REVOKED_KEYS}) in the configuration directory",
    ),
    _signing(
        "signers",
        of.SIGNERS,
        "names of other hosts whose backups are accepted, as lists by the name of a database, or by a prefix of object"
        " keys that ends with V(/)",
        "Backups of O(signing_name) and of O(databases[].backup_signers) are accepted without it.",
        default={},
        environment="DB_RESTORE_SIGNERS",
        variable="signers",
    ),
    _backup(
        "jobs",
        of.integer(1, 1000),
        "number of databases that are backed up at the same time",
        default=1,
    ),
    _chosen(
        _backup,
        "compression",
        tuple(METHODS),
        "how dumps are compressed before they are encrypted",
        "V(gzip) is the form that every reader of these backups knows.",
        default="gzip",
    ),
    _backup(
        "lock_wait",
        of.SECONDS,
        "how long a dump waits for a table that another session holds exclusively, in seconds",
        default=60,
    ),
    _backup(
        "require_restorable",
        of.BOOLEAN,
        "fail where a restore would refuse or leave out anything that is in the database",
        "Otherwise a warning of the backup and its manifest name that.",
        "The rules are those of the host's own restores, such as C(DB_RESTORE_EXTENSIONS).",
        default=False,
        added="0.2.0",
    ),
    _chosen(
        _backup,
        "run_on",
        (PRIMARY, STANDBY, ANY),
        "which nodes of a cluster with standbys back up: V(primary), V(standby), or V(any) node",
        "A node that is not meant to ends with a success, and its databases have the status C(skipped).",
        "With V(standby), the primary backs up as well where no standby is connected to it. Of several nodes that are"
        " meant to, one backs up in each O(run_on_window).",
        default=PRIMARY,
        added="0.2.0",
    ),
    _backup(
        "run_on_window",
        of.HOURS,
        "how long the backup of another node of the cluster stands for those of this one, in hours, unless O(run_on) is"
        " V(primary)",
        "It has to be shorter than the time between two backups of a schedule, and longer than the time by which the"
        " nodes' runs differ. Runs at the same time do not know of each other, so let the nodes begin one after the"
        " other.",
        default=12,
        added="0.2.0",
    ),
    _backup(
        "take_over",
        of.BOOLEAN,
        "continue under a prefix although its latest backup is of another cluster, or of a host whose backups are not"
        " accepted",
        "A latest backup that an accepted host has signed is followed. With any other, a new count begins. The warnings"
        " of the run name what was taken over.",
        default=False,
        environment=None,
        stored=False,
    ),
    _backup(
        "allow_unsigned",
        of.BOOLEAN,
        "back up without a signature although the latest backup is signed",
        "Otherwise a host that has lost its signing key fails to back up, because no restore would accept the new"
        " latest backup.",
        "The manifest of such a backup says that this was allowed.",
        default=False,
        added="0.2.0",
    ),
    _restore(
        "jobs",
        of.integer(1, 1000),
        "number of databases that are restored at the same time",
        default_text="one for each processor, but at least 2 and at most 4",
        flag=None,
        added="0.2.0",
    ),
    _chosen(
        _restore,
        "strategy",
        (SWAP, REPLACE),
        "V(swap): fill a second database and rename it into place; V(replace): read the whole backup once to check it,"
        " drop the database and fill it anew, for hosts without the space for both",
        default=SWAP,
    ),
    _restore(
        "keep_replaced",
        of.HOURS,
        "how long the replaced database is kept beside the new one, in hours; V(0) drops it at once",
        "A database without tables is never kept.",
        default=24,
    ),
    _chosen(
        _restore,
        "on_connections",
        (TERMINATE, REFUSE),
        "what happens to sessions in a database that is replaced: V(terminate) ends them, V(refuse) gives up if there"
        " are any",
        default=TERMINATE,
        flag_values={"--refuse-connected": REFUSE},
    ),
    _restore(
        "role_map",
        of.ROLE_MAP,
        "roles of the dump, each with the name that it gets here",
        default={},
    ),
    _restore(
        "skip_acl",
        of.BOOLEAN,
        "leave out the privileges that the dump grants, with a warning for each role",
        "What the dump revokes from C(PUBLIC) is always revoked, so that no role can do more than in the source.",
        default_text="true unless roles are mapped; false in the bootstrap of a fresh cluster",
    ),
    _restore(
        "drop_mapped_roles",
        of.BOOLEAN,
        "afterwards, drop the roles that were mapped to others",
        "A role that owns anything is kept, with a warning.",
        default=True,
    ),
    _restore(
        "force_target_owner",
        of.BOOLEAN,
        "make the database's user the owner of everything in it",
        default_text="true where privileges are left out or roles are mapped",
    ),
    _restore(
        "grant_app_user",
        of.BOOLEAN,
        "grant the user all privileges on schemas, tables and sequences, also on later ones",
        default=True,
    ),
    _restore(
        "set_search_path",
        of.BOOLEAN,
        "set the search_path of the user in the database",
        default=True,
    ),
    _restore(
        "search_path",
        of.NAMES,
        "schemas of that search_path",
        default=(),
        default_text="chosen by where the tables are",
    ),
    _restore(
        "public_connect",
        of.BOOLEAN,
        "let every role of the cluster connect to the restored database, where every role could connect to the one that"
        " it replaces (privilege C(CONNECT) of C(PUBLIC))",
        "Otherwise that privilege is left out, with a warning. Privileges of named roles are always kept.",
        default=False,
        added="0.2.0",
    ),
    _restore(
        "extensions",
        of.EXTENSIONS,
        "extensions that the superuser creates for a dump, besides trusted ones and those known to be harmless",
        default=(),
    ),
    _chosen(
        _restore,
        "on_error",
        (STOP, CONTINUE),
        "what a statement of the dump that fails ends: V(stop): the restore, and nothing is replaced; V(continue):"
        " nothing, the rest is restored",
        "With V(continue), the status is C(restored_with_errors) and the exit status 4 if statements have failed, and a"
        " warning describes each. Lost connections, full disks, exceeded limits, damage and attacks always end the"
        " restore.",
        default=STOP,
        added="0.2.0",
    ),
    _restore(
        "privileged",
        of.BOOLEAN,
        "let an unsigned backup define objects that only a superuser may create, such as functions in C(c) or"
        " C(plpython3u), casts and event triggers",
        "Of a signed backup of the same database the restore always creates those that the source had. The list of them"
        " in an unsigned backup may come from anyone who could write the object, so this lets them run programs on the"
        " host, as the server's operating system user, and become superuser.",
        default=False,
        added="0.2.0",
    ),
    _restore(
        "statement_timeout",
        of.SECONDS,
        "how long a single statement of the dump may take, or the rows of one table may stand still, in seconds",
        default=86400,
        added="0.2.0",
    ),
    _restore(
        "timeout",
        of.SECONDS,
        "how long the restore of one database may take until its swap, whatever it is waiting for, in seconds",
        default=259200,
        added="0.2.0",
    ),
    _restore(
        "max_size",
        of.SIZE,
        "largest size of the restored database, in bytes or with a binary unit, such as V(500G); V(0) is any size",
        default_text=(
            "four times the dump's text by the manifest, with 64 bytes added for each row; without such a manifest,"
            " sixteen times the text that was read so far; in any case at least V(1G)"
        ),
        added="0.2.0",
    ),
    _restore(
        "ignore_free_space",
        of.BOOLEAN,
        "restore even if the file system of the server seems to have too little free space for the database",
        "What is needed is an estimate: the size that the database had when it was backed up, and what WAL may take on"
        " the same file system. If the server's directory cannot be examined, nothing is refused.",
        default=False,
        added="0.2.0",
    ),
    _chosen(
        _restore,
        "trust",
        trust.MODES,
        "V(signed): restore only a backup that this host, or one that is named for the database, has signed;"
        " V(unsigned): restore any, such as one of an older tool",
        "Named are the hosts of O(signers) and of the database's C(backup_signers). The signature is verified before"
        " anything of the backup is read.",
        "With V(unsigned), a warning names what V(signed) would refuse.",
        "A manifest that is stored where the backups of another database are is refused with both.",
        default=trust.SIGNED,
        added="0.2.0",
    ),
    _restore(
        "max_age",
        of.HOURS,
        "age in hours above which the latest backup is restored with a warning, because it may have been rolled back;"
        " V(0): never warn",
        default=48,
        environment="DB_RESTORE_MAX_AGE_HOURS",
        added="0.2.0",
    ),
    _restore(
        "signer",
        of.SIGNER_NAMES,
        "also accept a backup that this host has signed, for this restore only",
        default=(),
        stored=False,
        repeatable=True,
        option=None,
    ),
    _restore(
        "as",
        of.DATABASE,
        "restore into a database of this name, beside the database itself, which stays as it is",
        "The name need not be in the list, and must not be that of a database of the list or of any other database. A"
        " copy that an earlier restore has made under this name is replaced.",
        "The copy belongs to the user of the database, and stays until it is dropped. It is not backed up.",
        default_text="the database itself is restored",
        stored=False,
        added="0.2.0",
    ),
    _restore(
        "tables",
        of.TABLES,
        "with O(as), load the rows of these tables only; the schema is restored whole",
        'Write a table with its schema as in SQL, such as V(public.orders) or V(sales."Order Lines"). Partitions and'
        " tables that inherit from a table come with it.",
        "Of the other tables, indexes, triggers, rules and foreign keys are left out as well. Large objects and rows of"
        " materialized views that are not named are left out with a warning.",
        default=(),
        default_text="all tables",
        stored=False,
        flag="--table",
        repeatable=True,
        added="0.2.0",
    ),
    _restore(
        "drop_after",
        of.HOURS,
        "with O(as), the number of hours after which the copy is dropped, by the next backup of the host",
        default_text="the copy stays",
        stored=False,
        added="0.2.0",
    ),
    _restore(
        "expected_sha256",
        of.SHA256,
        "SHA-256 that the encrypted object must have",
        stored=False,
    ),
    _restore(
        "age_private_key",
        of.SECRET,
        "age private key to decrypt the backup with, or several, one per line",
        default_text="C(backup_age_private_key) of the list's entry; the command asks for it on a terminal",
        stored=False,
        flag=None,
    ),
    _restore(
        "non_interactive",
        of.BOOLEAN,
        "fail instead of asking for a missing private key, and do not ask for confirmation",
        default=False,
        stored=False,
        option=None,
    ),
    _cluster(
        "cluster",
        "prefix",
        of.PREFIX,
        "prefix of the backups that belong to the cluster and to none of its databases; ends with V(/)",
        "To restore the roles of a lost host on a host with another name, set the prefix of the lost one, and name that"
        " host for it in O(signers).",
        default_text="C(cluster/) and O(signing_name), with V(/)",
        flag="--prefix",
    ),
    _cluster(
        "cluster_backup",
        "age_public_keys",
        of.RECIPIENTS,
        "age recipients of the backups of the cluster's roles; without any, the roles are not backed up",
        "Each of them can decrypt these backups. Give the roles a key pair of their own.",
        default=(),
    ),
    _cluster(
        "cluster_backup",
        "passwords",
        of.BOOLEAN,
        "include the verifiers of passwords in the backups of the cluster's roles",
        "Anyone with the private key can test guesses with them. Without them, restored roles cannot log in until they"
        " get new passwords. The users of the databases list get theirs from the list.",
        default=False,
    ),
    _cluster(
        "cluster_restore",
        "privileges",
        of.BOOLEAN,
        "create roles with C(SUPERUSER), C(REPLICATION), C(BYPASSRLS), C(CREATEROLE) and C(CREATEDB), and memberships"
        " in predefined roles (C(pg_*)), as they were",
        "Otherwise, these are listed with the statements that create them. Users of the databases list never get them,"
        " except memberships that lead to no superuser.",
        default=False,
        flag="--privileges",
    ),
    _cluster(
        "cluster_restore",
        "age_private_key",
        of.SECRET,
        "age private key of the backups of the cluster's roles, or several, one per line",
        "On a fresh cluster, the roles that are missing are created from the latest backup before the databases are"
        " restored. Without it, they are not restored.",
        environment=None,
        stored=False,
        variable=None,
    ),
)

BY_KEY: t.Mapping[tuple[str, str], Setting] = {row.key: row for row in TABLE}
#: Settings that ``db.env`` may hold, by their names there.
STORED: t.Mapping[str, Setting] = {row.environment: row for row in TABLE if row.environment and row.stored}
#: Settings that are read from the environment of a restore.
SWITCHES: t.Mapping[str, Setting] = {
    row.environment: row for row in TABLE if row.environment and row.environment.startswith("DB_RESTORE_")
}
#: The databases list in ``db.env``.
LIST = "DATABASES_JSON"
#: Names in ``db.env`` that other programs use: of the databases list, of roles, and of what wrote it before.
OTHER_NAMES = (LIST, "DB_TYPE", "DB_VERSION", "K3S_NODE_CIDRS")
IGNORED_PREFIXES = ("APP_DB_", "DB_BACKUP_AGE_")


def of_section(section: str) -> tuple[Setting, ...]:
    """The settings of *section*, in their order."""
    return tuple(row for row in TABLE if row.section == section)


def in_files(rows: t.Mapping[str, Setting]) -> tuple[str, ...]:
    """Those of *rows* that are secret, so that ``NAME_FILE`` may name a file that holds the value."""
    return tuple(name for name, row in rows.items() if row.secret)


def name_for_errors(section: str, name: str) -> str:
    """A setting as a hint names it, for the readers of all front ends: ``timeout (DB_RESTORE_TIMEOUT)``."""
    row = BY_KEY[section, name]
    names = [row.option, row.flag, row.environment]
    first, *others = [each for each in names if each is not None]
    return f"{first} ({', '.join(others)})" if others else first


class Values:
    """Values of settings: those of one source over those of another, and the defaults below all.

    :param layers: values by key, the strongest first.  A value that is absent or ``None`` is not set there.
    """

    def __init__(self, *layers: t.Mapping[tuple[str, str], t.Any]) -> None:
        self._layers = layers

    def over(self, layer: t.Mapping[tuple[str, str], t.Any]) -> Values:
        """The same, with *layer* on top."""
        return Values(layer, *self._layers)

    def without(self, key: tuple[str, str]) -> Values:
        """The same, with one setting not set."""
        return Values(*({each: value for each, value in layer.items() if each != key} for layer in self._layers))

    def get(self, section: str, name: str) -> t.Any:
        """The value of a setting, or its default; ``None``: it has neither."""
        row = BY_KEY[section, name]
        for layer in self._layers:
            value = layer.get(row.key)
            if value is not None:
                return value
        return None if row.default is None else row.type.read(row.default, row.name)

    def of_section(self, section: str) -> dict[str, t.Any]:
        """All values of a section by name."""
        return {row.name: self.get(section, row.name) for row in of_section(section)}


def read(
    given: t.Mapping[str, t.Any], rows: t.Mapping[str, Setting], *, named: str = "{}"
) -> dict[tuple[str, str], t.Any]:
    """The values of *given*, by key.  ``None`` and an empty text are not set.

    :param given: what was written, by the name that it has there.
    :param rows: settings by that name.
    :param named: how errors name a setting: a pattern for the name.
    :raises ConfigurationError: naming the setting, never with its value where that is a secret.
    """
    found, errors = examine(given, rows, named=named)
    for error in errors.values():
        raise error
    return found


def examine(
    given: t.Mapping[str, t.Any], rows: t.Mapping[str, Setting], *, named: str = "{}"
) -> tuple[dict[tuple[str, str], t.Any], dict[str, ConfigurationError]]:
    """As :func:`read`: the values that are valid, and the errors in the others, by the name that was given."""
    found: dict[tuple[str, str], t.Any] = {}
    errors: dict[str, ConfigurationError] = {}
    for name, row in rows.items():
        value = given.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            found[row.key] = row.type.read(value, named.format(name))
        except ConfigurationError as exc:
            errors[name] = exc
    return found, errors


def not_to_be_stored(values: t.Iterable[str], *, name: str) -> dict[str, ConfigurationError]:
    """Errors for what a file on a host must not hold: settings of a single run, of which one is a private key.

    :param name: of the file.
    """
    switches = {**SWITCHES, **{f"{each}{secretfiles.SUFFIX}": SWITCHES[each] for each in in_files(SWITCHES)}}
    return {
        each: ConfigurationError(
            f"{name} contains {each}, which is for a single restore",
            hint="remove the line, and set it in the environment of that restore",
        )
        for each in values
        if each in switches and not switches[each].stored
    }
