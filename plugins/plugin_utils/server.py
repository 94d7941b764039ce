# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a host's server, from the desired state and facts about the host.

Every error is reported at once, by setting, before anything changes.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..module_utils._engine.domain import databases, envfile
from ..module_utils._engine.errors import ConfigurationError
from . import hba, network, volume

#: Major version in the archive of each release.
DISTRIBUTIONS = {
    ("debian", "11"): "13",
    ("debian", "12"): "15",
    ("debian", "13"): "17",
    ("ubuntu", "22.04"): "14",
    ("ubuntu", "24.04"): "16",
}
#: Oldest major version that the engine supports.
OLDEST = 13

#: Settings of the server that the role sets, and what determines them.
_DECIDED = {
    "listen_addresses": "server_listen_address",
    "password_encryption": "the role, to scram-sha-256",
    "port": "server_port",
    "ssl": "server_tls",
    "ssl_cert_file": "server_tls",
    "ssl_key_file": "server_tls",
    "data_directory": "Debian's packages",
    "hba_file": "Debian's packages",
}
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?")
_VARIABLES = {
    "WG_CIDR": "server_wg_cidr",
    "PRIVATE_CIDR": "server_private_cidr",
    "DB_LISTEN_ADDRESS": "server_listen_address",
}


class InvalidServer(ConfigurationError):
    """The desired state is invalid, or impossible on this host; :attr:`faults` has every error."""

    def __init__(self, faults: t.Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults), hint="nothing has been changed")


@dataclasses.dataclass(frozen=True)
class Server:
    """The plan.

    :param network_env: settings that ``network.env`` lacks, or has with other values.
    :param hba: lines of the block in ``pg_hba.conf``.
    :param volume: steps for the volume; ``None`` without a volume.
    :param warnings: texts for the user about a valid plan.
    """

    major: str
    listen_addresses: str
    hba: list[str]
    network_env: dict[str, str]
    volume: volume.Volume | None
    warnings: list[str]


def plan(desired: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> Server:
    """Plan the server of a host.

    :param desired: ``version``, ``settings``, ``wg_cidr``, ``private_cidr``, ``listen_address``, ``databases``,
        ``databases_required`` and ``client_cidrs``, ``volume_device``, ``volume_filesystem``, ``tls`` with its files
        and settings, and ``db_env``, the text of the host's settings file, which applies where the rest is empty.
    :param facts: the probe's answer.
    :raises InvalidServer: with every error.
    """
    reader = _Reader(desired, facts)
    major = reader.major()
    reader.check_settings()
    reader.check_tls()
    listen, changes = reader.listen()
    rules = reader.rules()
    steps = reader.volume(major) if major else None
    if reader.faults:
        raise InvalidServer(reader.faults)
    return Server(major, listen, rules, changes, steps, reader.warnings)


class _Reader:
    """Reads the desired state against the facts, and collects the errors."""

    def __init__(self, desired: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> None:
        self.desired = desired
        self.facts = facts
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.network = self._environment("network.env", facts["network_env"])
        self.database = self._environment("db.env", desired["db_env"])

    def fault(self, field: str, reason: str, remedy: str) -> None:
        self.faults.append(f"{field}: {reason} ({remedy})")

    def _environment(self, name: str, text: str) -> dict[str, str]:
        try:
            return envfile.parse(text, name=name)
        except ConfigurationError as exc:
            self.fault(name, exc.message, exc.hint)
            return {}

    def major(self) -> str:
        """The major version; empty after an error."""
        release = self.facts["os"]
        own = DISTRIBUTIONS.get((release["id"], release["version"]), "")
        text = str(self.desired["version"]).strip()
        match = re.fullmatch(r"([1-9][0-9]?)(?:\.[0-9.]+)?", text)
        major = match[1] if match else ""
        if text and not major:
            self.fault("server_version", f"{text!r} is not a version of PostgreSQL", "set a major version such as 15")
            return ""
        if not text:
            major = own
        if not major:
            self.fault("server_version", "is empty, and this distribution is unknown", "set a major version")
            return ""
        if int(major) < OLDEST:
            self.fault("server_version", f"{major} is too old", f"{OLDEST} or newer")
            return ""
        available = major == own or major in self.facts["installed"] or major in self.facts["candidates"]
        if self.desired["repository"] == "distribution" and not available:
            has = f", which has {own}" if own else ""
            self.fault(
                "server_version",
                f"PostgreSQL {major} is not in the archives of {release['id']} {release['version']}{has}",
                "set server_repository to pgdg, or another version",
            )
        configured = [other for other in self.facts["clusters"] if other != major]
        if configured and major not in self.facts["clusters"]:
            self.fault(
                "server_version",
                f"the host has a cluster of PostgreSQL {', '.join(configured)}, and none of {major}",
                "set server_version to it, or upgrade or drop the cluster first; this role does not convert it",
            )
        return major

    def check_settings(self) -> None:
        for name, value in self.desired["settings"].items():
            if not isinstance(name, str) or not _SETTING.fullmatch(name):
                self.fault("server_settings", f"{name!r} is not the name of a setting", "correct it")
            elif name.lower() in _DECIDED:
                self.fault("server_settings", f"{name} is set by {_DECIDED[name.lower()]}", "remove it")
            elif not isinstance(value, (str, bool, int, float)) or any(mark in str(value) for mark in "\0\n\r"):
                self.fault("server_settings", f"the value of {name} is not a single line", "set a text or a number")

    def check_tls(self) -> None:
        kind = self.desired["tls"]
        needed = {
            "none": (),
            "files": ("server_tls_certificate", "server_tls_key"),
            "certbot": ("server_certbot_domains", "server_certbot_email", "server_certbot_cloudflare_token"),
        }[kind]
        missing = [name for name in needed if not self.desired[name]]
        for name in missing:
            self.fault(name, "is empty", f"server_tls: {kind} needs it")
        if kind == "files" and not missing and self.facts["tls_fault"]:
            self.fault(
                "server_tls_certificate and server_tls_key",
                self.facts["tls_fault"],
                "set files on the host with a certificate and its chain, and with its key without a passphrase",
            )

    def listen(self) -> tuple[str, dict[str, str]]:
        """``listen_addresses``, and the changes of ``network.env``."""
        changes: dict[str, str] = {}
        for name, variable in _VARIABLES.items():
            value = str(self.desired[variable.replace("server_", "", 1)]).strip()
            if value and self.network.get(name) != value:
                changes[name] = value
        settings = {name: changes.get(name, self.network.get(name, "")).strip() for name in network.SETTINGS}
        addresses = self.facts["addresses"]
        try:
            self.network["WG_CIDR"] = network.cidr(settings["WG_CIDR"]) if settings["WG_CIDR"] else ""
        except network.BadNetwork as exc:
            self.fault("WG_CIDR", str(exc), "set one network such as 10.8.0.0/24")
        wanted, private = settings["DB_LISTEN_ADDRESS"], settings["PRIVATE_CIDR"]
        try:
            listen = network.listen_addresses(wanted=wanted, private=private, addresses=addresses)
        except network.BadNetwork as exc:
            field = "DB_LISTEN_ADDRESS" if wanted else "PRIVATE_CIDR"
            self.fault(field, str(exc), "set addresses separated by commas" if wanted else "set one IPv4 network")
            return "", changes
        if listen == "*" and private:
            self.warnings.append(
                f"no address of this host is in PRIVATE_CIDR {private}: the server listens on all of its addresses"
            )
        if not network.covers_loopback(listen):
            self.warnings.append("DB_LISTEN_ADDRESS does not include localhost, where restores log in: they will fail")
        return listen, changes

    def rules(self) -> list[str]:
        """Lines for ``pg_hba.conf``."""
        try:
            cidrs = network.cidrs(self.desired["client_cidrs"] or self.database.get("K3S_NODE_CIDRS", ""))
        except network.BadNetwork as exc:
            self.fault("server_client_cidrs", str(exc), "set networks such as 10.0.0.0/16, separated by commas")
            return []
        try:
            source = self.desired["databases"] or self.database.get("DATABASES_JSON", "")
            entries = databases.private_view(source) if source else []
        except ConfigurationError as exc:
            self.fault("server_databases", exc.message, "correct the list")
            return []
        if not source and self.desired["databases_required"]:
            self.fault(
                "server_databases",
                "there is no list: no infrazero_databases or infrazero_databases_* in the inventory, no"
                " DATABASES_JSON_PRIVATE_B64 in the environment of ansible-playbook, no DATABASES_JSON in the host's"
                " db.env",
                "set infrazero_databases for the host or for one of its groups",
            )
        names = [(str(entry.get("name", "")), str(entry.get("user", ""))) for entry in entries]
        return hba.rules(wg_cidr=self.network.get("WG_CIDR", ""), entries=names, cidrs=cidrs)

    def volume(self, major: str) -> volume.Volume | None:
        if not self.faults:  # an error of the version would be reported twice
            volume.check_directory(
                volume.CLUSTERS,
                major,
                self.facts["local"],
                lambda reason, remedy: self.fault("server_version", reason, remedy),
            )
        device = self.desired["volume_device"]
        if not device:
            return None
        return volume.plan(
            device=device,
            filesystem=self.desired["volume_filesystem"],
            major=major,
            facts=self.facts,
            refuse=lambda reason, remedy: self.fault("server_volume_device", reason, remedy),
        )
