"""The server of the campaign, which takes six seconds to start: one for all of its tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.campaign.faults import compile_shim
from tests.campaign.harness import Server


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The shim of failing calls, which fails none without its variable; None where there is no C compiler."""
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def server(shim: Path | None) -> Iterator[Server]:
    with Server({} if shim is None else {"LD_PRELOAD": str(shim)}) as opened:
        yield opened
