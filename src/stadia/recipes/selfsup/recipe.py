"""The recipe `selfsup`: depth and camera motion from unlabeled video (Monodepth2, arXiv 1806.01260).

With a stereo source, whose transform is the rig's in metres, depth is in metres.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.core.types import Batch, DepthScale
from stadia.losses.reprojection import STEREO_SOURCE
from stadia.recipes.base.self_supervised import SelfSupervisedRecipe
from stadia.recipes.base.video_data import VideoData, open_data_sets
from stadia.recipes.selfsup.config import SelfsupConfig

PARTLY_MONO_NOTE = (
    "note: {} has no scale: metres come from the stereo pairs of the other data sets alone, and hold for"
    " images like theirs. The depth is up to scale"
)


class SelfsupRecipe(SelfSupervisedRecipe[SelfsupConfig]):
    """`SelfSupervisedRecipe` on recordings as they are.

    Args:
        config: with `data.stereo` resolved to true or false.
    """

    recipe = "selfsup"
    best_metrics = ("val/abs_rel", "val/residual")
    supports_stages = True

    @classmethod
    def prepare(cls, config: SelfsupConfig, console: Console) -> tuple[SelfsupConfig, VideoData]:
        """Open the data; return the configuration with every "auto" resolved, and the data.

        An encoder that is unknown to timm or unfit for the image size is refused before images are decoded. A right
        view without stereo data is refused once the data are open.
        """
        cls.check_encoders(config)
        data = open_data_sets(config.data, config.training, seed=config.seed, console=console)
        mono = [name for name, one in data.each.items() if not one.config.stereo]
        if config.model.right_view and mono:
            found = "recordings of one camera" + f" in {', '.join(mono)}" * bool(mono[0])
            raise ConfigError(
                "model.right_view", found=found, expected="a stereo pair, which teaches it", fix="leave it out"
            )
        if 0 < len(mono) < len(data.each):
            console.print(PARTLY_MONO_NOTE.format(", ".join(mono)), markup=False, highlight=False, soft_wrap=True)
        return config.model_copy(update={"data": data.config}), data

    @property
    def depth_scale(self) -> DepthScale:
        """Return metres if every data set has a stereo rig, else depth up to one unknown scale."""
        return DepthScale.UP_TO_SCALE if self.config.data.mono else DepthScale.METRES

    def batch_depth_scale(self, batch: Batch) -> DepthScale:
        """Return metres for data sets with a rig, even beside data sets without: this shows a drift of the scale."""
        return DepthScale.METRES if STEREO_SOURCE in batch.source_names else super().batch_depth_scale(batch)

    @property
    def run_metadata(self) -> Mapping[str, object]:
        sets, mono = self.config.data.sets, self.config.data.mono
        if not mono:
            pair = (
                "the baseline of the stereo pair"
                if len(sets) == 1
                else f"the baselines of the stereo pairs of {', '.join(sets)}"
            )
            return {**super().run_metadata, "scale_from": pair}
        partly = {"without_scale": mono} if len(mono) < len(sets) else {}
        return {**super().run_metadata, **partly}
