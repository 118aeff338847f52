"""Types, errors, configuration and tables of parts, for all other packages."""
