"""A few tables, rendered once, for the tests of TableWorld."""

import pytest

from stadia.objectpose.config import TABLEWORLD_TINY, TableWorldConfig
from stadia.objectpose.table_world import TableRenderer, TableScene, TableView, derive_table_seed, make_table


@pytest.fixture(scope="session")
def config() -> TableWorldConfig:
    return TABLEWORLD_TINY.model_copy(update={"height": 96, "width": 128, "views": 2})


@pytest.fixture(scope="session")
def tables(config: TableWorldConfig) -> list[TableScene]:
    return [make_table(derive_table_seed(0, "train", index), config) for index in range(8)]


@pytest.fixture(scope="session")
def views(tables: list[TableScene], config: TableWorldConfig) -> list[TableView]:
    renderers = [TableRenderer(table, config) for table in tables[:6]]
    return [renderer.render(view) for renderer in renderers for view in range(config.views)]
