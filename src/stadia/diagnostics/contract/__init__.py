"""The contract: what is asked of the losses, networks and optimiser of a training before its first step."""
