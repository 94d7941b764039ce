# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Names of files for keys of objects: any key, one file, and no two keys the same file.

Ordinary keys are paths as they are: ``db/app/20260101T000000Z.sql.gz.age`` is that path below the root.  For the rest:

- The name of an object has a dot in it, the name of a folder has none, so that ``a`` and ``a/b`` can both exist.  A dot
  in a folder's name becomes ``%2E``; an object's name without a dot gets ``%.`` at its end.
- ``%``, control characters and a dot at the beginning (``..``, hidden and temporary files) become ``%XX``.
- A folder without a name is ``%``.
- A name too long for a file system is cut into folders whose names end with ``%+``; it has ``%2E`` for its dots, and
  an object's ``%.`` at its end.

``%`` followed by anything but two hexadecimal digits comes from no key, so these marks can't be mistaken.
"""

from __future__ import annotations

import re

#: Bytes of one name: file systems allow 255, and a mark is added.
_LONGEST = 240

_OBJECT = "%."
_NAMELESS = "%"
_CONTINUED = "%+"
_UNSAFE = re.compile("[\x00-\x1f\x7f%]")
_ESCAPE = re.compile("%([0-9A-F]{2})")
_UNIT = re.compile("%[0-9A-F]{2}|%[.+]|.", re.DOTALL)


def path_of(key: str) -> str:
    """Path of the file for the object *key*, relative to the root, with ``/`` between its parts."""
    folders, _slash, name = key.rpartition("/")
    parts = [part for folder in _split(folders, key) for part in _cut(_folder(folder))]
    return "/".join(parts + _cut(_object(name)))


def folder_of(prefix: str) -> str:
    """Path of the folder that holds every object whose key begins with *prefix*, ``""`` for the root."""
    folders, _slash, _rest = prefix.rpartition("/")
    return "/".join(part for folder in _split(folders, prefix) for part in _cut(_folder(folder)))


def key_of(path: str) -> str | None:
    """Key of the object in the file *path*, relative to the root; ``None`` if no object has that path."""
    names = [""]
    parts = path.split("/")
    for part in parts[:-1]:
        if part.endswith(_CONTINUED):
            names[-1] += part[: -len(_CONTINUED)]
        else:
            names[-1] += part
            names.append("")
    names[-1] += parts[-1][: -len(_OBJECT)] if parts[-1].endswith(_OBJECT) else parts[-1]
    folders = ["" if name == _NAMELESS else _plain(name) for name in names[:-1]]
    key = "/".join([*folders, _plain(names[-1])])
    # Only the one way to write a key counts: anything else there isn't ours.
    return key if key and path_of(key) == path else None


def _split(folders: str, key: str) -> list[str]:
    return folders.split("/") if "/" in key else []


def _escaped(name: str) -> str:
    text = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", name)
    return "%2E" + text[1:] if text.startswith(".") else text


def _plain(name: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)


def _folder(name: str) -> str:
    return _escaped(name).replace(".", "%2E") or _NAMELESS


def _object(name: str) -> str:
    text = _escaped(name)
    if len(text.encode("utf-8")) > _LONGEST:
        # No piece may begin with a dot, so the mark has to do what the dot did.
        return text.replace(".", "%2E") + _OBJECT
    return text if "." in text else text + _OBJECT


def _cut(name: str) -> list[str]:
    """*name* in pieces short enough, each but the last with the mark of a piece that goes on."""
    if len(name.encode("utf-8")) <= _LONGEST:
        return [name]
    pieces = [""]
    size = 0
    for match in _UNIT.finditer(name):
        unit = len(match[0].encode("utf-8"))
        if size + unit > _LONGEST:
            pieces.append("")
            size = 0
        pieces[-1] += match[0]
        size += unit
    return [piece + _CONTINUED for piece in pieces[:-1]] + [pieces[-1]]
