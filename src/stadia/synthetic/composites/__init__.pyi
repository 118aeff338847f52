"""Public names; `__init__.py` loads a module when one of its names is used."""

from .backgrounds import DepthLabel as DepthLabel
from .backgrounds import open_backgrounds as open_backgrounds
from .composer import CompositeComposer as CompositeComposer
from .composer import CompositePair as CompositePair
from .composer import CompositeSource as CompositeSource
from .composer import placement_size_range as placement_size_range
from .composite_files import CompositeFiles as CompositeFiles
from .composite_files import is_composite_set as is_composite_set
from .composite_files import open_composite_files as open_composite_files
from .composite_files import write_composites as write_composites
from .composite_files import write_composites_preview as write_composites_preview
from .config import BackgroundConfig as BackgroundConfig
from .config import ForegroundConfig as ForegroundConfig
from .config import PlacementConfig as PlacementConfig
from .foregrounds import check_foregrounds as check_foregrounds
from .foregrounds import hash_visible_pixels as hash_visible_pixels
from .foregrounds import open_foregrounds as open_foregrounds
from .published_layout import LayoutScan as LayoutScan
from .published_layout import PublishedComposites as PublishedComposites
from .published_layout import is_published as is_published
from .published_layout import scan_published_layout as scan_published_layout
from .published_layout import split_published_layout as split_published_layout
