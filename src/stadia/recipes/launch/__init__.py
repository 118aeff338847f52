"""What starts a training: data, start checks, expected cost, measured choices, the workflow."""
