"""Public names; `__init__.py` loads a module when one of its names is used."""

from .height_priors import HeightPrior as HeightPrior
from .height_priors import Priors as Priors
from .height_priors import RoadConfig as RoadConfig
from .height_priors import find_prior as find_prior
from .height_priors import normalize_class as normalize_class
from .mask_files import CocoMasks as CocoMasks
from .mask_files import MaskFiles as MaskFiles
from .mask_files import attach_masks as attach_masks
from .mask_files import clean_masks as clean_masks
from .mask_files import find_edge_objects as find_edge_objects
from .mask_files import has_road as has_road
from .mask_files import resize_labels as resize_labels
from .mask_files import resize_masks as resize_masks
from .mask_files import select_classes as select_classes
from .mask_objects import crop_object as crop_object
from .mask_objects import find_mask_boxes as find_mask_boxes
from .mask_objects import is_cut_by_edge as is_cut_by_edge
