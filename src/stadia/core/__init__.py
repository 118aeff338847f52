"""Define types, errors, configuration rules and tables of parts. Imports no other package of stadia, and torch nowhere
at run time but in `torchvision_shim`.
"""
