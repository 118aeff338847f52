"""Types, errors, configuration rules, tables of parts, seeds. Imports nothing of ours, and torch only in `types`."""
