"""Draw with matplotlib independently of a matplotlibrc."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito

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


def render_figure(figure: Figure) -> NDArray[np.uint8]:
    """Render a matplotlib figure to an image (H, W, 3) RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
