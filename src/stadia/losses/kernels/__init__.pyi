"""Public names; `__init__.py` loads a module when one of its names is used."""

from .fused_reprojector import FusedReprojector as FusedReprojector
