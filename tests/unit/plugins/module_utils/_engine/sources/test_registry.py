# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources import registry
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
)


def test_the_settings_decide_which_kind_it_is() -> None:
    source = registry.open_source(ConnectionSettings(host="/nowhere"))
    assert source.kind == "postgresql"
    assert source.kind in manifest.PARTS, "a manifest must have a part for it"


def test_other_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="str are not settings of a source"):
        registry.open_source("postgresql")
