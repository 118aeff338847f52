"""Types, errors, configuration, and tables of parts, which all other packages use."""
