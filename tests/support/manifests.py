# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests as plain data, changed or in the form of an older version, and signed as they are."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.signing import keys as signing_keys
from ansible_collections.infrazero.database.plugins.module_utils._engine.signing import sshsig

from tests.support.signing import SigningHost

Json = dict[str, t.Any]

#: Fields of PostgreSQL's part.
_PART = frozenset(field.name for field in dataclasses.fields(manifest.Postgresql))
#: What version 1 did not have.
_LATER = ("source", "kind", "version", "recipients", "destination", "chunks", "postgresql", "rekeyed")


def changed(fields: t.Mapping[str, t.Any], **changes: t.Any) -> Json:
    """*fields* with *changes*, each in the place of its field; ``...`` removes one."""
    part = {**fields.get("postgresql", {}), **{name: value for name, value in changes.items() if name in _PART}}
    head = {**fields, **{name: value for name, value in changes.items() if name not in _PART}, "postgresql": part}
    head["postgresql"] = {name: value for name, value in part.items() if value is not ...}
    return {name: value for name, value in head.items() if value is not ...}


def version_1(fields: t.Mapping[str, t.Any]) -> Json:
    """*fields* of a manifest of today as version 0.1 wrote them."""
    flat = {**fields, **fields["postgresql"], "schema_version": 1}
    return {name: value for name, value in flat.items() if name not in _LATER}


def signed(host: SigningHost, fields: t.Mapping[str, t.Any]) -> Json:
    """*fields*, whatever they are, with a sound signature of *host*'s."""
    text = manifest.signed_text(json.dumps(fields).encode())
    return {**fields, "signature": sshsig.sign(text, path=str(host.path), run=signing_keys.ssh_keygen())}


def canonical(fields: t.Mapping[str, t.Any]) -> bytes:
    """The bytes of *fields* as every version writes them."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
