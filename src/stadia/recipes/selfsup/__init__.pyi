"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import SelfsupConfig as SelfsupConfig
from .recipe import SelfsupRecipe as SelfsupRecipe
