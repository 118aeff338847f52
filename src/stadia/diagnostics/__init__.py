"""Findings: what is wrong with data, losses or a run, with the evidence and the fix."""
