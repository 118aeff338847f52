"""The training loop on Lightning Fabric, and what a run keeps: folder, checkpoints, logs, images."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adam": "stadia.training.loop.recipe:adam",
        "adamw": "stadia.training.loop.recipe:adamw",
        "sgd": "stadia.training.loop.recipe:sgd",
    },
)

SCHEDULES = Registry(
    "schedule",
    {
        "constant": "stadia.training.loop.recipe:constant",
        "step": "stadia.training.loop.recipe:step",
        "cosine": "stadia.training.loop.recipe:cosine",
    },
)

LOGGERS = Registry(
    "logger",
    {
        "csv": "stadia.training.loop.callbacks:CsvLogger",
        "tensorboard": "stadia.training.loop.callbacks:TensorBoardLogger",
        "wandb": "stadia.training.loop.callbacks:WandbLogger",
    },
)
