"""Write the page that ranks networks on a video: a table, and pictures side by side with a slider."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.io.atomic_files import write_text
from stadia.report.embedded_images import encode_jpeg
from stadia.report.page_template import TEMPLATE_FOLDER, embed_scripts, make_environment

MAX_WIDTH = 640  # largest width of a picture in the page


def write_ranking_page(
    path: Path,
    *,
    title: str,
    conclusion: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Mapping[str, NDArray[np.uint8]]],
    notes: Sequence[str],
) -> None:
    """Write one self-contained page.

    path: file to write.
    conclusion: the sentence with the result.
    columns: meaning of each column by its title.
    rows: the networks, best first, with name, licence, weights, is_tied, and `cells` of the columns.
    pictures: images (H, W, 3) BGR by frame and title.
    """
    sheets = [
        {"frame": frame, "pictures": [(name, encode_jpeg(image, MAX_WIDTH)) for name, image in shown.items()]}
        for frame, shown in pictures.items()
    ]
    page = make_environment().get_template("ranking.html")
    about = {"title": title, "conclusion": conclusion, "columns": columns, "rows": rows, "notes": notes}
    text = page.render(sheets=sheets, **about, **embed_scripts([TEMPLATE_FOLDER / "ranking.js"]))
    write_text(path, text)
