"""Reverse-mode differentiation of ONNX graphs. Knows nothing of images, classes or heat maps.

forward.py reads a graph, prepare.py rewrites the walk's copy of it into forms that rules understand, registry.py and
rules/ say how each operator is differentiated, reverse.py walks from a tensor back to others and writes the gradient
as new ONNX nodes through tensor.py.
"""
