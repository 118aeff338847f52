"""Read the depth of recordings from a network, for the camera height over the road."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Recording
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.predict.predict_frames import predict_inverse_depth
from stadia.scale.camera_height.depth_heights import DepthSource, check_ratios
from stadia.training.recipes.base.build_recipe import load_predictor, open_network_checkpoint


def open_network_depth(name: str, recordings: Sequence[Recording]) -> DepthSource:
    """Open the depth that a network predicts for recordings of one camera.

    name: a checkpoint, a run or a published network.
    recordings: the recordings.

    Raises ConfigError for depth with an unknown shift.
    """
    camera = recordings[0].camera(0)
    predictor = load_predictor(open_network_checkpoint(name, lambda: (camera.height, camera.width)))
    check_ratios(name, predictor.depth_scale)

    def read(recording: Recording, index: int) -> NDArray[np.float32]:
        (frame,) = read_frames(recording, [index])
        prepared = PreparedFrame.prepare(predictor, frame)
        inverse_depth = predict_inverse_depth(predictor, prepared)
        return prepared.predicted(predictor.depth_scale, inverse_depth, None).depth_at_image()

    return DepthSource(name, read)
