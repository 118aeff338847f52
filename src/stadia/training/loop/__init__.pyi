"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .batches import BatchIterable as BatchIterable
from .batches import BatchStream as BatchStream
from .batches import EpochLoader as EpochLoader
from .batches import Sample as Sample
from .batches import StagedBatches as StagedBatches
from .batches import TrainingPlan as TrainingPlan
from .batches import ValidationScores as ValidationScores
from .batches import gather_from_processes as gather_from_processes
from .batches import scale_batch_size as scale_batch_size
from .batches import select_device as select_device
from .callbacks import CsvLogger as CsvLogger
from .callbacks import Logger as Logger
from .callbacks import OutputGradients as OutputGradients
from .callbacks import TensorBoardLogger as TensorBoardLogger
from .callbacks import WandbLogger as WandbLogger
from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import CheckpointHeader as CheckpointHeader
from .checkpoint import check_recipe as check_recipe
from .checkpoint import load_weights as load_weights
from .clock import PhaseClock as PhaseClock
from .clock import Stopwatch as Stopwatch
from .config import OptimizerConfig as OptimizerConfig
from .config import ScheduleConfig as ScheduleConfig
from .config import StageConfig as StageConfig
from .config import TrainingConfig as TrainingConfig
from .fit import Interrupted as Interrupted
from .fit import TrainingResult as TrainingResult
from .loop import Callback as Callback
from .loop import TrainingLoop as TrainingLoop
from .processes import check_precision as check_precision
from .recipe import AnyRecipe as AnyRecipe
from .recipe import HasOptimizer as HasOptimizer
from .recipe import Recipe as Recipe
from .recipe import UpdateRatio as UpdateRatio
from .run_folder import Run as Run
from .run_folder import is_main_process as is_main_process

OPTIMIZERS: stadia.core.registry.Registry
SCHEDULES: stadia.core.registry.Registry
LOGGERS: stadia.core.registry.Registry
