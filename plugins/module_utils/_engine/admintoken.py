# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "keep Infisical's admin token": store it encrypted, with a pointer to the newest one.

An existing token stays: it is neither written again nor replaced, unless the caller asks for a rotation or the object
that the pointer names is missing or altered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import io
import typing as t

from .domain import admintoken
from .domain.secret import Secret
from .errors import AccessDenied, ConfigurationError, NotFound
from .streams import age

if t.TYPE_CHECKING:
    from .stores.base import Store


@dataclasses.dataclass(frozen=True)
class Kept:
    """What the store contains after the run, or would contain.

    :param changed: whether this run stored the token.
    :param pointer: contents of the pointer.
    """

    changed: bool
    pointer: admintoken.Pointer
    pointer_key: str
    warnings: tuple[str, ...] = ()


def keep(
    token: Secret,
    *,
    site_url: str,
    recipients: t.Sequence[str],
    store: Store,
    prefix: str = "infisical/",
    rotate: bool = False,
    plan_only: bool = False,
) -> Kept:
    """Ensure that the admin token is in the store.

    :param token: the token, without a newline; it is stored unchanged.
    :param recipients: age recipients that the token is encrypted to.
    :param prefix: prefix of all of Infisical's objects; ends with ``/``.
    :param rotate: store *token* even if the store already has one.
    :param plan_only: report what would be done without changing anything.
    :raises ConfigurationError: if the stored token belongs to another site.
    """
    parsed = age.parse_recipients(recipients)
    text = token.reveal()
    if not text or text != text.strip():
        raise ConfigurationError("the admin token is empty or has whitespace around it", hint="give only the token")
    pointer_key = admintoken.pointer_key(prefix)
    warnings: tuple[str, ...] = ()
    existing = None if rotate else _read(store, pointer_key)
    if existing is not None:
        if existing.site_url not in ("", site_url):
            raise ConfigurationError(
                f"{store.url(pointer_key)} belongs to another site",
                cause=f"it names the site {existing.site_url!r}, not {site_url!r}",
                hint="correct site_url, or, to replace the other site's token, rotate it (rotate: true)",
            )
        loss, warnings = _check(store, existing)
        if loss is None:
            return Kept(False, existing, pointer_key, warnings)
        warnings += (f"{loss}: the token is stored again",)
    moment = datetime.datetime.now(datetime.timezone.utc)
    sealed = _seal(text, parsed)
    pointer = admintoken.Pointer(
        key=admintoken.token_key(prefix, moment),
        site_url=site_url,
        sha256=hashlib.sha256(sealed).hexdigest(),
        created_at=admintoken.moment_text(moment),
    )
    if not plan_only:
        store.put_if_absent(pointer.key, sealed)
        # The pointer is written last, so that the object it names exists.
        store.put(pointer_key, pointer.render())
    return Kept(True, pointer, pointer_key, warnings)


def _read(store: Store, key: str) -> admintoken.Pointer | None:
    try:
        return admintoken.parse(store.get(key, limit=admintoken.MAX_BYTES))
    except NotFound:
        return None


def _check(store: Store, pointer: admintoken.Pointer) -> tuple[str | None, tuple[str, ...]]:
    """Return why the token that *pointer* names is lost (``None`` if it is not), and warnings."""
    try:
        sealed = store.get(pointer.key, limit=admintoken.MAX_BYTES)
    except NotFound:
        return f"{store.url(pointer.key)} is missing", ()
    except AccessDenied:
        return None, (f"{store.url(pointer.key)} can't be checked: the store denies reading it",)
    if pointer.sha256 is not None and hashlib.sha256(sealed).hexdigest() != pointer.sha256:
        return f"{store.url(pointer.key)} is not the object that was stored", ()
    return None, ()


def _seal(text: str, recipients: t.Sequence[t.Any]) -> bytes:
    with contextlib.closing(age.encrypting_reader(io.BytesIO(text.encode()), recipients)) as reader:
        return b"".join(iter(lambda: reader.read(admintoken.MAX_BYTES), b""))
