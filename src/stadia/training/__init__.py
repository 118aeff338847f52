"""Training: run folders, checkpoints, exact resume. Knows step, learning rate and checkpoint; imports core only."""

from stadia.core.tables import Table

OPTIMIZERS = Table(
    "optimizer",
    {"adam": "stadia.training.optim:adam", "adamw": "stadia.training.optim:adamw", "sgd": "stadia.training.optim:sgd"},
)

SCHEDULES = Table(
    "schedule",
    {
        "constant": "stadia.training.optim:constant",
        "step": "stadia.training.optim:step",
        "cosine": "stadia.training.optim:cosine",
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
