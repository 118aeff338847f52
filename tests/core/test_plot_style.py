"""Charts look alike under any matplotlibrc, which stays as it is."""

import matplotlib
import numpy as np
import pytest

from stadia.evaluation.plots.charts import draw_height_histogram


@pytest.mark.slow
def test_a_users_style_neither_changes_a_chart_nor_is_changed() -> None:
    heights, pools = np.linspace(1.4, 1.8, 50), {"all": 1.6}
    usual = draw_height_histogram(heights, pools)
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20}):
        assert np.array_equal(draw_height_histogram(heights, pools), usual)
        assert (matplotlib.rcParams["axes.facecolor"], matplotlib.rcParams["font.size"]) == ("black", 20)
