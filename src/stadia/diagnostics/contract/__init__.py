"""The contract: what is asked of the losses, networks and optimizer of a training before its first step."""
