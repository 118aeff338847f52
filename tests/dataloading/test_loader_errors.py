"""Unreadable files are named in errors, in any process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stadia.core.errors import DataError
from stadia.dataloading.loader import Loader


class Unreadable:
    """Samples of which none can be read."""

    def __len__(self) -> int:
        return 4

    def packed(self, key: tuple[int, int]) -> None:
        raise DataError(f"frame {key[1]}", found="a truncated image", expected="a PNG", fix="copy it again")

    def stack(self, samples: Sequence[None]) -> None: ...


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_sample_reaches_the_trainer_as_it_is(workers):
    loader = Loader(Unreadable(), batch_size=2, shuffle=False, workers=workers)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^frame 0: found a truncated image; expected a PNG. Fix: copy it again\.$"):
        next(iter(loader))
