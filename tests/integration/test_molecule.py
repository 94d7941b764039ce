# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shortest molecule scenario, on a real host in a container. The others take minutes each: `make molecule`."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t
import warnings

import pytest

import conftest

SCRIPTS = pathlib.Path(conftest.ROOT, "scripts")


def script(name: str, *arguments: str) -> tuple[int, str]:
    """Its exit status, and all that it said."""
    done = subprocess.run(
        [str(SCRIPTS / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def engine() -> t.Iterator[None]:
    """An engine with what the scenario needs, or the reason why not. One that runs only for this is stopped."""
    status, said = script("containers/engine")
    try:
        for name, *arguments in (["containers/images", "12"], ["containers/collections"]):
            if status == 0:
                status, said_then = script(name, *arguments)
                said += said_then
        if status:
            reason = f"NO HOST WAS TRIED, the scenario quick was not run: {said.strip().splitlines()[-1]}"
            warnings.warn(reason, stacklevel=1)
            pytest.skip(reason)
        yield
    finally:
        if "engine: starting dockerd" in said:
            script("containers/engine", "--stop")
        elif "engine: starting docker.service" in said:
            subprocess.run(["systemctl", "stop", "docker.service", "docker.socket"], check=True)


@pytest.mark.usefixtures("engine")
def test_quick() -> None:
    status, said = script("rehearse", "quick")
    assert status == 0, said
