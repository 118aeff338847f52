"""Training: run folders, checkpoints, exact resume. Knows step, learning rate and checkpoint; imports core only."""

from stadia.core.tables import Table

OPTIMISERS = Table(
    "optimiser",
    {
        "adam": "stadia.training.optimisers:adam",
        "adamw": "stadia.training.optimisers:adamw",
        "sgd": "stadia.training.optimisers:sgd",
    },
)

SCHEDULES = Table(
    "schedule",
    {
        "constant": "stadia.training.schedules:constant",
        "step": "stadia.training.schedules:step",
        "cosine": "stadia.training.schedules:cosine",
    },
)

LOGGERS = Table(
    "logger",
    {
        "csv": "stadia.training.loggers:CsvLogger",
        "tensorboard": "stadia.training.loggers:TensorBoardLogger",
        "wandb": "stadia.training.loggers:WandbLogger",
    },
)
