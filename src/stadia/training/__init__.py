"""The training loop on Lightning Fabric, and what a run keeps: folder, checkpoints, logs, images."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

OPTIMIZERS = Registry(
    "optimizer",
    {"adam": "stadia.training.optim:adam", "adamw": "stadia.training.optim:adamw", "sgd": "stadia.training.optim:sgd"},
)

SCHEDULES = Registry(
    "schedule",
    {
        "constant": "stadia.training.optim:constant",
        "step": "stadia.training.optim:step",
        "cosine": "stadia.training.optim:cosine",
    },
)

LOGGERS = Registry(
    "logger",
    {
        "csv": "stadia.training.loggers:CsvLogger",
        "tensorboard": "stadia.training.loggers:TensorBoardLogger",
        "wandb": "stadia.training.loggers:WandbLogger",
    },
)
