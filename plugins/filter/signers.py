# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: names that hosts sign under, and the file their keys are gathered in."""

from __future__ import annotations

import datetime
import platform
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.plugin_utils import signers


def signing_name(name: str) -> str:
    """Name under which the host with this inventory name signs."""
    try:
        return signers.signing_name(str(name), node=platform.node())
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.signing_name: {exc}") from None


def signer_line(public_key: str, name: str) -> str:
    """Line of an allowed_signers file for a host."""
    try:
        return signers.signer_line(public_key, name)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.signer_line: {exc}") from None


def gathered_signers(
    text: str,
    name: str,
    public_key: str,
    *,
    node: str = "",
    others: t.Sequence[str] = (),
    replace: bool = False,
) -> str:
    """Text of an allowed_signers file with the key of a host."""
    try:
        return signers.gathered(
            text,
            name=name,
            public_key=public_key,
            node=node,
            others=others,
            replace=replace,
            now=datetime.datetime.now(datetime.timezone.utc),
        )
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.gathered_signers: {exc}") from None


def signer_report(text: str, name: str, public_key: str) -> str:
    """Description of the keys that an allowed_signers file accepts for a host."""
    try:
        return signers.report(text, name=name, public_key=public_key)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.signer_report: {exc}") from None


def signers_file(inventory_dir: str | None, lines: object = ()) -> str:
    """File on the controller in which signing keys are gathered by default."""
    return signers.file_beside(None if inventory_dir is None else str(inventory_dir), lines=lines)


def signers_warning(text: str, name: str, public_key: str, *, path: str = "", lines: str | t.Sequence[str] = "") -> str:
    """Warning that the key of a host is kept nowhere but on that host."""
    given = lines if isinstance(lines, str) else "\n".join(lines)
    try:
        return signers.warning(public_key, name=name, path=path, lines=given, text=text)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.signers_warning: {exc}") from None


def host_signers(text: str, name: str, public_key: str, *, found: str = "", keep: bool = False) -> str:
    """Text of the allowed_signers file of a host."""
    try:
        return signers.on_host(text, name=name, public_key=public_key, found=found, keep=keep)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.host_signers: {exc}") from None


class FilterModule:
    """Filters of infrazero.database."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {
            "gathered_signers": gathered_signers,
            "host_signers": host_signers,
            "signer_line": signer_line,
            "signer_report": signer_report,
            "signers_file": signers_file,
            "signers_warning": signers_warning,
            "signing_name": signing_name,
        }
