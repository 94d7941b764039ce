# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own regression tests: their source and the libraries that they load, for the installed server.

Debian's source package and ``postgresql-server-dev`` are downloaded in the version of the installed server, and nothing
of them is installed.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tarfile

from tests.support import apt
from tests.support.cluster import INSTALLATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "regression"

#: What is needed of the source.
UNPACKED = re.compile(r"[^/]+/src/test/regress/(regress\.c|parallel_schedule|(sql|data|expected)/.*)")


@dataclasses.dataclass(frozen=True)
class Material:
    """The regression tests of one major version.

    :param source: the directory ``src/test/regress``.
    :param libraries: files of shared libraries that the tests load.
    :param version: of Debian's packages.
    """

    source: pathlib.Path
    libraries: tuple[pathlib.Path, ...]
    version: str


def fetch(major: int) -> Material:
    """Return the regression tests of the installed server, downloaded and built unless an earlier run did so.

    :raises AptError: they cannot be had.
    """
    version = apt.run("dpkg-query", "--show", "--showformat=${Version}", f"postgresql-{major}").strip()
    place = CACHE / f"{major}-{version}"
    library = place / "regress.so"
    if not library.exists():
        debian = apt.Apt(CACHE / "apt", apt.release())
        debian.download_source(f"postgresql-{major}={version}", place / "downloads")
        debian.download([f"postgresql-server-dev-{major}={version}"], place / "downloads")
        _unpack_source(place / "downloads", place / "regress")
        for package in (place / "downloads").glob("*.deb"):
            apt.unpack(package, place / "headers")
        apt.run(
            *("gcc", "-O2", "-fPIC", "-shared", f"-I{place}/headers/usr/include/postgresql/{major}/server"),
            *(str(place / "regress" / "regress.c"), "-o", str(library)),
        )
    # The triggers of contrib/spi, which Debian has in the server's own package.
    installed = INSTALLATIONS / str(major) / "lib"
    return Material(place / "regress", (library, installed / "refint.so", installed / "autoinc.so"), version)


def _unpack_source(downloads: pathlib.Path, into: pathlib.Path) -> None:
    [archive] = downloads.glob("*.orig.tar.*")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if UNPACKED.fullmatch(member.name) and member.isfile()]
        for member in members:
            member.name = member.name.partition("/src/test/regress/")[2]
        tar.extractall(into, members=members, filter="data")
