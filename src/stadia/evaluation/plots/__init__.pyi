"""Public names; `__init__.py` loads a module when one of its names is used."""

from .activations import SelectedChannels as SelectedChannels
from .activations import write_activation_video as write_activation_video
from .charts import EpochHeight as EpochHeight
from .charts import draw_depth_comparison as draw_depth_comparison
from .charts import draw_heights_over_epochs as draw_heights_over_epochs
from .charts import draw_heights_over_frames as draw_heights_over_frames
from .charts import draw_motions as draw_motions
from .charts import draw_paths as draw_paths
from .colormaps import category_key as category_key
from .colormaps import color_categories as color_categories
from .colormaps import color_heat as color_heat
from .colormaps import color_inverse_depth as color_inverse_depth
from .colormaps import to_uint8 as to_uint8
from .image_overlays import add_legend as add_legend
from .image_overlays import compose_image_rows as compose_image_rows
from .image_overlays import draw_box_verdicts as draw_box_verdicts
from .image_overlays import draw_horizon as draw_horizon
from .image_overlays import draw_masks as draw_masks
from .image_overlays import draw_objects as draw_objects
from .image_overlays import draw_plane as draw_plane
from .image_overlays import draw_text as draw_text
from .videos import depth_color_writer as depth_color_writer
from .videos import estimate_frame_rate_hz as estimate_frame_rate_hz
from .videos import open_side_by_side_video as open_side_by_side_video
from .videos import side_by_side_image_writer as side_by_side_image_writer
