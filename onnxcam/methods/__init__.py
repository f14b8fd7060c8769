"""Class activation mapping methods: each a pure function from `Evidence` to a raw map, written once.

Most use only what values of a graph offer as well, so that the same text can compute the map inside a model. Those
that need an eigendecomposition, random numbers or many runs take arrays only.
"""

# Importing a family registers its methods.
from onnxcam.methods import activation as activation
from onnxcam.methods import gradient as gradient
from onnxcam.methods import perturbation as perturbation
from onnxcam.methods.registry import METHODS, Method, Option, find

__all__ = ["METHODS", "Method", "Option", "find"]
