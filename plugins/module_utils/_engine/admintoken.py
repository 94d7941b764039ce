# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "keep Infisical's admin token": encrypted in the store, with a pointer to the newest.

A token that is there stays: what is already stored is neither written again nor replaced, unless that is asked for or
what the pointer names is gone.
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
    """What is in the store now, or would be.

    :param changed: whether the token was stored by this run.
    :param pointer: what the pointer says.
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
    """See to it that the admin token is in the store.

    :param token: stored as it is, without a line end.
    :param recipients: age recipients that it is encrypted to.
    :param prefix: of everything that belongs to Infisical; ends with ``/``.
    :param rotate: store *token* though there is one.
    :param plan_only: say what would be done, change nothing.
    :raises ConfigurationError: where the token there is of another site.
    """
    parsed = age.parse_recipients(recipients)
    text = token.reveal()
    if not text or text != text.strip():
        raise ConfigurationError("the admin token is empty, or has whitespace around it", hint="give the token alone")
    pointer_key = admintoken.pointer_key(prefix)
    warnings: tuple[str, ...] = ()
    found = None if rotate else _read(store, pointer_key)
    if found is not None:
        if found.site_url not in ("", site_url):
            raise ConfigurationError(
                f"{store.url(pointer_key)} is of another site",
                cause=f"it says {found.site_url!r}, this is {site_url!r}",
                hint="correct the site's URL, or, if its token is to be replaced, ask for a rotation",
            )
        loss, warnings = _look(store, found)
        if loss is None:
            return Kept(False, found, pointer_key, warnings)
        warnings += (f"{loss}: the token is stored anew",)
    moment = datetime.datetime.now(datetime.timezone.utc)
    sealed = _seal(text, parsed)
    made = admintoken.Pointer(
        key=admintoken.token_key(prefix, moment),
        site_url=site_url,
        sha256=hashlib.sha256(sealed).hexdigest(),
        created_at=admintoken.moment_text(moment),
    )
    if not plan_only:
        store.put_if_absent(made.key, sealed)
        # Last: what it names is there.
        store.put(pointer_key, made.render())
    return Kept(True, made, pointer_key, warnings)


def _read(store: Store, key: str) -> admintoken.Pointer | None:
    try:
        return admintoken.parse(store.get(key, limit=admintoken.MAX_BYTES))
    except NotFound:
        return None


def _look(store: Store, pointer: admintoken.Pointer) -> tuple[str | None, tuple[str, ...]]:
    """Whether the token that *pointer* names is lost, and what else is to be said."""
    try:
        sealed = store.get(pointer.key, limit=admintoken.MAX_BYTES)
    except NotFound:
        return f"{store.url(pointer.key)} is missing", ()
    except AccessDenied:
        return None, (f"{store.url(pointer.key)} can't be checked: the store doesn't let us read it",)
    if pointer.sha256 is not None and hashlib.sha256(sealed).hexdigest() != pointer.sha256:
        return f"{store.url(pointer.key)} is not what was stored", ()
    return None, ()


def _seal(text: str, recipients: t.Sequence[t.Any]) -> bytes:
    with contextlib.closing(age.encrypting_reader(io.BytesIO(text.encode()), recipients)) as reader:
        return b"".join(iter(lambda: reader.read(admintoken.MAX_BYTES), b""))
