"""Train: programs that start a training and choose between its weights; the loop; the recipes.

`workflow` trains one recipe, `adapt` fine-tunes a network on one video, `studies` compare many trainings.
"""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

DEMOS = Registry("demo", {"selfsup": "stadia.training.demo:run_demo", "metric": "stadia.training.demo:run_metric_demo"})
"""What `stadia demo --recipe` runs."""
