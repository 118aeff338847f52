"""Public names; `__init__.py` loads a module when one of its names is used."""

from .data_fingerprint import DataFingerprint as DataFingerprint
from .data_fingerprint import NoFingerprintError as NoFingerprintError
from .data_fingerprint import fingerprint_data as fingerprint_data
from .reused_findings import FindingsCache as FindingsCache
