# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import packages

from tests.extensions import run


@pytest.mark.parametrize("extension", run.declared(), ids=lambda extension: extension.name)
def test_a_missing_extension_is_named_with_its_package(extension):
    assert f"install the package {extension.package}" in packages.package_hint(extension.name, run.MAJOR)
