"""The training loop on Lightning Fabric, and what a run keeps: folder, checkpoints, logs, images."""

from stadia.core.registry import Registry

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adam": "stadia.training.optimizers:adam",
        "adamw": "stadia.training.optimizers:adamw",
        "sgd": "stadia.training.optimizers:sgd",
    },
)

SCHEDULES = Registry(
    "schedule",
    {
        "constant": "stadia.training.schedules:constant",
        "step": "stadia.training.schedules:step",
        "cosine": "stadia.training.schedules:cosine",
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
