"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import PlannedRun as PlannedRun
from .config import StudyConfig as StudyConfig
from .config import changed_keys as changed_keys
from .config import check_metric as check_metric
from .config import count_samples as count_samples
from .config import plan_runs as plan_runs
from .config import read_study as read_study
from .launch import Job as Job
from .launch import Launcher as Launcher
from .launch import LocalLauncher as LocalLauncher
from .launch import SlurmLauncher as SlurmLauncher
from .launch import slurm_options as slurm_options
from .study_folder import StudyFolder as StudyFolder
from .study_folder import add_line as add_line
from .study_folder import write_lines as write_lines
from .study_verdicts import check_budgets as check_budgets
from .study_verdicts import evaluation_notes as evaluation_notes
from .study_verdicts import judge_study as judge_study
from .sweep import SearchRange as SearchRange
from .sweep import Sweep as Sweep
from .sweep import confirm_command as confirm_command
from .sweep import rank_keys as rank_keys
from .sweep import read_space as read_space
