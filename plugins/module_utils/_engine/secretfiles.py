# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Secrets in files, as containers and secret managers provide them: ``DB_PASSWORD_FILE=/run/secrets/db_password``."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

from .domain.databases import contains_private_key
from .errors import ConfigurationError

#: What is added to the name of a secret, for the name of its file.
SUFFIX = "_FILE"
#: Largest file that is read, in bytes.
MOST = 16 * 2**20

_HINT = "correct the path, or let the user that runs this read the file"


class Contents(t.NamedTuple):
    """What is in a file.

    :param text: without the line breaks at the end.
    :param exposed: whether it holds a private key that every local user may read.
    """

    text: str
    exposed: bool


def read(path: str | pathlib.Path, *, named: str) -> Contents:
    """Read a file.

    :param named: what names the file, for errors: ``DB_PASSWORD_FILE in /etc/infrazero/db.env``.
    :raises ConfigurationError: if it cannot be read, is too large, is not text, or is empty; never with its contents.
    """
    cause = hint = ""
    text, mode = "", 0
    try:
        with pathlib.Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MOST + 1)
        text = data.decode("utf-8").rstrip("\r\n")
        if len(data) > MOST:
            cause, hint = "it is too large", "name the file that holds the secret"
        elif not text.strip():
            cause, hint = "it is empty", "write the secret into it"
        elif "\0" in text:
            cause, hint = "it contains NUL", "name the file that holds the secret"
    except UnicodeDecodeError:
        cause, hint = "it is not UTF-8", "name the file that holds the secret"
    except OSError as exc:
        cause, hint = exc.strerror or "it is not a file", _HINT
    except ValueError:  # a NUL in the path
        cause, hint = "it is not a path", _HINT
    if cause:
        # What does not exist may be the secret itself, given in place of a path.
        shown = f", {path}," if mode else ""
        raise ConfigurationError(f"the file that {named} names{shown} can't be read", cause=cause, hint=hint)
    return Contents(text, stat.S_ISREG(mode) and bool(mode & stat.S_IROTH) and contains_private_key(text))


def resolve(
    given: t.Mapping[str, str], names: t.Iterable[str], *, directory: str | pathlib.Path, named: str
) -> tuple[dict[str, str], list[str]]:
    """*given*, with secrets from their files, and warnings.

    :param names: secrets that may be in files.
    :param directory: what relative paths are relative to.
    :param named: how errors name a variable: a pattern for its name.
    :raises ConfigurationError: if a secret and its file are both given, or the file cannot be used.
    """
    found, warnings = dict(given), []
    for name in names:
        variable = name + SUFFIX
        path = given.get(variable, "").strip()
        if not path:
            continue
        if given.get(name, "").strip():
            raise ConfigurationError(
                f"{named.format(f'{name} and {variable}')} are both set", hint="remove one of the two"
            )
        place = pathlib.Path(directory, path)
        contents = read(place, named=named.format(variable))
        found[name] = contents.text
        if contents.exposed:
            warnings.append(f"{place} holds a private key and can be read by every user: set its mode to 0600")
    return found, warnings
