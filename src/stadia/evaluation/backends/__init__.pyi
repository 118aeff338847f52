"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .backend import Backend as Backend
from .backend import check_backend as check_backend
from .export_cache import open_cached_file as open_cached_file

BACKENDS: stadia.core.registry.Registry
PRECISIONS: stadia.core.registry.Registry
