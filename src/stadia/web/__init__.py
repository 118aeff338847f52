"""The pages of `stadia app`: the server, the prediction of uploads, and static files that load nothing from other
hosts.
"""
