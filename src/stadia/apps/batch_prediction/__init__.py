"""Predict many videos: a ledger, engines that run the work, and outputs in a folder or a store."""
