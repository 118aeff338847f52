import stadia.core.registry

from .adapt import SCOPES as SCOPES
from .adapt import Adaptation as Adaptation
from .adapt import adapt_network as adapt_network
from .step_measurement import DryRunResult as DryRunResult
from .time_budget import choose_configuration as choose_configuration
from .workflow import dry_run as dry_run
from .workflow import train as train

DEMOS: stadia.core.registry.Registry
