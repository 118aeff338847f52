"""Public names; `__init__.py` loads a module when one of its names is used."""

from .finding import Finding as Finding
from .finding import OnStop as OnStop
from .finding import Severity as Severity
from .finding import Stage as Stage
from .finding import append_finding as append_finding
from .finding import read_findings as read_findings
from .finding import read_valid_findings as read_valid_findings
from .finding import write_findings as write_findings
