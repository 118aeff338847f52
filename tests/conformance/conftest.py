"""Let the modules of this folder import each other, as the importlib mode of pytest does not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
