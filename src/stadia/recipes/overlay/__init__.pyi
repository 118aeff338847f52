"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import OverlayConfig as OverlayConfig
from .data import draw_overlays as draw_overlays
from .data import write_overlay_set as write_overlay_set
from .recipe import GradientBalance as GradientBalance
from .recipe import OverlayRecipe as OverlayRecipe
