"""Public names; `__init__.py` loads a module when one of its names is used."""

from .report_page import build_report as build_report
