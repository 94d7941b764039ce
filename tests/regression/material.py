# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own regression tests: their source and the libraries that they load, for the installed server.

Debian's source package and ``postgresql-server-dev`` are downloaded in the version of the installed server.  Nothing of
them is installed, and the machine's lists of packages stay as they are: apt works in a directory of its own.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import tarfile

from tests.support.cluster import INSTALLATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "regression"

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
REPOSITORIES = (
    ("http://deb.debian.org/debian", "{release} {release}-updates"),
    ("http://deb.debian.org/debian-security", "{release}-security"),
)
#: What is needed of the source.
UNPACKED = re.compile(r"[^/]+/src/test/regress/(regress\.c|parallel_schedule|(sql|data|expected|input)/.*)")


class MaterialError(Exception):
    """The source or the libraries cannot be had; the text says what is missing."""


class Material:
    """The regression tests of one major version.

    :param source: the directory ``src/test/regress``.
    :param libraries: files of shared libraries that the tests load.
    :param version: of Debian's packages.
    """

    def __init__(self, source: pathlib.Path, libraries: tuple[pathlib.Path, ...], version: str) -> None:
        self.source = source
        self.libraries = libraries
        self.version = version


def fetch(major: int) -> Material:
    """Return the regression tests of the installed server, downloaded and built unless an earlier run did so."""
    for program, package in (("apt-get", "apt"), ("gcc", "gcc"), ("dpkg-deb", "dpkg")):
        if shutil.which(program) is None:
            raise MaterialError(f"{program} is missing: install the package {package}")
    version = _run("dpkg-query", "--show", "--showformat=${Version}", f"postgresql-{major}").strip()
    place = CACHE / f"{major}-{version}"
    source = place / "regress"
    library = place / "regress.so"
    if not library.exists():
        place.mkdir(parents=True, exist_ok=True)
        apt = _Apt(CACHE / "apt")
        _unpack_source(apt, f"postgresql-{major}={version}", place, source)
        headers = _unpack_headers(apt, f"postgresql-server-dev-{major}={version}", place)
        _run(
            *("gcc", "-O2", "-fPIC", "-shared", f"-I{headers}/usr/include/postgresql/{major}/server"),
            *("-I/usr/include/postgresql", str(source / "regress.c"), "-o", str(library)),
        )
    # The triggers of contrib/spi, which Debian has in the server's own package.
    installed = INSTALLATIONS / str(major) / "lib"
    return Material(source, (library, installed / "refint.so", installed / "autoinc.so"), version)


class _Apt:
    """Downloads packages with lists and a cache of its own."""

    def __init__(self, place: pathlib.Path) -> None:
        for name in ("lists/partial", "archives/partial"):
            (place / name).mkdir(parents=True, exist_ok=True)
        release = re.search(
            r"^VERSION_CODENAME=(\w+)$", pathlib.Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE
        )
        if release is None or not pathlib.Path(KEYRING).exists():
            raise MaterialError("the regression database is made from Debian's source packages, and this is not Debian")
        lines = [
            f"{kind} [signed-by={KEYRING}] {address} {suite} main"
            for address, suites in REPOSITORIES
            for suite in suites.format(release=release[1]).split()
            for kind in ("deb", "deb-src")
        ]
        (place / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._options = [
            f"--option={name}={value}"
            for name, value in (
                ("Dir::Etc::SourceList", place / "sources.list"),
                ("Dir::Etc::SourceParts", "/dev/null"),
                ("Dir::State::Lists", place / "lists"),
                ("Dir::Cache", place),
                # The user _apt need not be able to reach the checkout.
                ("APT::Sandbox::User", "root"),
            )
        ]
        _run("apt-get", *self._options, "--quiet", "update")

    def download(self, command: str, package: str, into: pathlib.Path) -> None:
        """Run apt-get *command* for *package* in the directory *into*."""
        into.mkdir(exist_ok=True)
        _run("apt-get", *self._options, "--quiet", *command.split(), package, directory=into)


def _unpack_source(apt: _Apt, package: str, place: pathlib.Path, source: pathlib.Path) -> None:
    downloads = place / "downloads"
    apt.download("source --download-only", package, downloads)
    [archive] = downloads.glob("*.orig.tar.*")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if UNPACKED.fullmatch(member.name) and (member.isfile() or member.isdir())]
        for member in members:
            member.name = member.name.partition("/src/test/regress/")[2]
        tar.extractall(source, members=members, filter="data")


def _unpack_headers(apt: _Apt, package: str, place: pathlib.Path) -> pathlib.Path:
    apt.download("download", package, place / "downloads")
    [archive] = (place / "downloads").glob("postgresql-server-dev-*.deb")
    _run("dpkg-deb", "--extract", str(archive), str(place / "headers"))
    return place / "headers"


def _run(*command: str, directory: pathlib.Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    if done.returncode:
        raise MaterialError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
