"""Draw with matplotlib independently of a matplotlibrc."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DRAWING = threading.RLock()  # matplotlib's settings are global, and the app draws in threads


@contextmanager
def use_default_style(**settings: Any) -> Iterator[None]:
    """Draw in matplotlib's default style in the `with` block, without the user's settings; they are restored
    afterwards.

    settings: values of `matplotlib.rcParams` that differ from the defaults.
    """
    import matplotlib

    with _DRAWING, matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings}):
        yield
