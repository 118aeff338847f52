"""A drive on disk and a checkpoint, as for the evaluation of depth."""

from tests.evaluation.conftest import checkpoint as checkpoint
from tests.evaluation.conftest import drive_folder as drive_folder
from tests.evaluation.conftest import video as video
