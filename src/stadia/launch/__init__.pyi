from .step_measurement import DryRunResult as DryRunResult
from .time_budget import choose_configuration as choose_configuration
from .workflow import dry_run as dry_run
from .workflow import train as train
