"""Compiled kernels of the losses for CPUs; `losses.selfsup_loss` uses them where no GPU trains."""
