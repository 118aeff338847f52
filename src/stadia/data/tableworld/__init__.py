"""TableWorld: procedural objects on a table, rendered exactly without assets. Imports no torch."""
