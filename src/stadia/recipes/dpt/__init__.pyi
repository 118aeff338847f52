"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import DptRecipeConfig as DptRecipeConfig
from .recipe import DptRecipe as DptRecipe
