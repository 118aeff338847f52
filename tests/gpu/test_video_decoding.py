"""A GPU decodes what the processor decodes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stadia.evaluation.plots.videos import open_video_file
from stadia.io.video_decoding import stream_video

pytestmark = pytest.mark.gpu


def test_frames_are_those_of_the_processor(gpu: torch.device, tmp_path: Path) -> None:
    """Luma and chroma are equal; the conversion to RGB may round otherwise."""
    y, x = np.mgrid[:256, :320]
    with open_video_file(tmp_path / "waves.mp4", 30.0) as write:
        for number in range(12):
            waves = [np.sin(x / 41 + number / 9), np.sin(y / 29 - number / 7), np.sin((x + y) / 53)]
            write(np.uint8(127.5 + 100 * np.stack(waves, axis=-1)))
    frames = [list(stream_video(tmp_path / "waves.mp4", decoder)) for decoder in ("cpu", "cuda")]
    assert [len(each) for each in frames] == [12, 12]
    for one, other in zip(*frames, strict=True):
        assert (one.index, one.time_s) == (other.index, other.time_s)
        assert np.abs(np.int16(one.image) - other.image).max() <= 3
