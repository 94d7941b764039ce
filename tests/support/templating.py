# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates as Ansible templates them, with the plugins of the collection.

In a process of their own: to find those plugins, Ansible takes over how collections are imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t

from conftest import COLLECTIONS, ROOT


def templated(cases: t.Sequence[tuple[str, t.Mapping[str, t.Any]]]) -> list[t.Any]:
    """What each template comes to.

    :param cases: templates, each with its variables as plain data.  Templates in variables are templated as well.
        Backslashes mean what they do in a file that the module ``template`` reads.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.templating"],
        input=json.dumps(cases),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return t.cast("list[t.Any]", json.loads(done.stdout))


def _trusted(value: t.Any) -> t.Any:
    from ansible.template import trust_as_template

    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: _trusted(each) for key, each in value.items()}
    return [_trusted(each) for each in value] if isinstance(value, list) else value


def _main() -> None:
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.template import Templar

    init_plugin_loader([str(COLLECTIONS)])
    loader = DataLoader()
    results = [
        Templar(loader, variables=_trusted(variables)).template(_trusted(template), escape_backslashes=False)
        for template, variables in json.load(sys.stdin)
    ]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    _main()
