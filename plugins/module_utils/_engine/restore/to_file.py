# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "restore to a file": the plain dump of a backup, decrypted and decompressed, for another machine.

No server is needed.  Nothing of the dump is executed, so the object is read once.
"""

from __future__ import annotations

import datetime
import hashlib
import time
import typing as t

from .. import outcome
from ..domain import manifest
from ..errors import ChecksumMismatch, WrongIdentity
from ..reporting import Reporter
from ..sources import registry
from ..streams.flow import CHUNK
from ..streams.newfile import NewFile
from .choose import explained, look_into, plain
from .plan import Request, require_kind, require_size
from .stage import compare, compare_digests

WRITTEN = "written"


def write(request: Request, path: str, *, settings: registry.Settings, reporter: Reporter) -> outcome.Outcome:
    """Write the dump to the new file *path*, which gets its name after the dump was compared with its manifest.

    :param settings: of the source, which is not connected to.
    """
    started = time.monotonic()
    choice, name = request.choice, request.database.name
    said = choice.manifest
    source = registry.open_source(settings)
    if said is not None:
        require_kind(choice, said, source.kind)
    digest = hashlib.sha256()
    size = 0
    with NewFile(path) as file:
        try:
            look = look_into(choice, request.identities)
        except WrongIdentity as exc:
            raise explained(exc, choice, owners=request.options.owners) from None
        require_size(choice, look.size)
        reporter.stage(name, "write", f"writing {choice.url} to {path}", total=look.size)

        def advance(count: int) -> None:
            reporter.advance(name, count)

        with plain(choice, request.identities, proof=choice.proof, advance=advance) as decoded:
            dump = source.checked(decoded)
            while True:
                chunk = dump.read(CHUNK)
                if not chunk:
                    break
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            sha256 = decoded.proof.sha256
        _require_whole(said, size, url=choice.url)
        if dump.is_text:
            compare(choice, dump.rows)
            compare_digests(choice, dump.digests)
        file.complete()
    created = choice.created_at
    details: dict[str, t.Any] = {
        "file": path,
        "file_size": size,
        "file_sha256": digest.hexdigest(),
        "is_text": dump.is_text,
        "source": choice.url,
        "sha256": sha256,
        "signed_by": None if choice.signed_by is None else {"name": choice.signed_by.name, "key": choice.signed_by.key},
        "created_at": None if created is None else created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "age_seconds": None
        if created is None
        else int((datetime.datetime.now(datetime.timezone.utc) - created).total_seconds()),
        "rows": sum(dump.rows.values()) if dump.is_text else None,
        "tables": len(dump.rows) if dump.is_text else None,
        "verified": said is not None and said.tables is not None and dump.is_text,
        "duration_seconds": round(time.monotonic() - started, 3),
        "warnings": list(choice.warnings),
    }
    reporter.stage(name, "done", f"written to {path}")
    return outcome.Outcome(name, WRITTEN, details)


def _require_whole(said: manifest.Manifest | None, size: int, *, url: str) -> None:
    if said is None or said.plaintext_size in (None, size):
        return
    raise ChecksumMismatch(
        f"the text of {url} has {size} bytes, its manifest says {said.plaintext_size}",
        hint="choose another backup; no file was written",
    )
