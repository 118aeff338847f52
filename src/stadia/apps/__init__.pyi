"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .export import export_checkpoint as export_checkpoint
from .masks import MasksRequest as MasksRequest
from .masks import prepare_masks as prepare_masks

DEMOS: stadia.core.registry.Registry
