"""Each test has a cache folder of its own: two suites at once map the same images."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path_factory.mktemp("cache")))
