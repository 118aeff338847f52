"""Training: run folders, checkpoints, exact resume. Knows step, learning rate and checkpoint; imports core only."""

from stadia.core.tables import Table

OPTIMIZERS = Table(
    "optimizer",
    {
        "adam": "stadia.training.optimizers:adam",
        "adamw": "stadia.training.optimizers:adamw",
        "sgd": "stadia.training.optimizers:sgd",
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
