"""The recipe `selfsup`: depth and camera motion from unlabelled video (Monodepth2, arXiv 1806.01260).

With a stereo source, whose transform is the rig's in metres, depth is in metres.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.core.types import Claim
from stadia.recipes.self_supervised import SelfSupervisedRecipe
from stadia.recipes.selfsup_config import SelfsupConfig
from stadia.recipes.video import VideoData, open_video


class Selfsup(SelfSupervisedRecipe[SelfsupConfig]):
    """`SelfSupervisedRecipe` and no more, of recordings as they are.

    Args:
        config: with `data.stereo` settled to true or false.
    """

    recipe = "selfsup"
    best_metrics = ("val/abs_rel", "val/residual")

    @classmethod
    def prepare(cls, config: SelfsupConfig, console: Console) -> tuple[SelfsupConfig, VideoData]:
        """Open the data; the configuration comes back with every "auto" of it settled.

        An encoder that timm does not know, or that the pictures' size does not suit, is refused before anything is decoded; a right view
        that no recording has, once that is known.
        """
        cls.check_encoders(config)
        data = open_video(config.data, config.training, seed=config.seed, console=console)
        if config.model.right_view and not data.config.stereo:
            raise ConfigError(
                "model.right_view", found="recordings of one camera", expected="a stereo pair, which teaches it", cure="leave it out"
            )
        return config.model_copy(update={"data": data.config}), data

    @property
    def claim(self) -> Claim:
        """Metres where a rig's baseline trained it, else depth up to one unknown scale."""
        return Claim.METRES if self.config.data.stereo else Claim.UP_TO_SCALE

    @property
    def about(self) -> Mapping[str, object]:
        metres = {"scale_from": "the baseline of the stereo pair"} if self.claim is Claim.METRES else {}
        return {**super().about, **metres}
