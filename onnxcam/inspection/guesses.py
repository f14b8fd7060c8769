"""Sequences of tokens that nothing in the graph tells the grid of: behind a loop, or an operator of somebody's own.

A number of tokens that is a square, with a few others before it, is taken for that, and the guess is said. The grid of
any other number is left open: what it can be is decided by the picture's proportions, or not at all.
"""

from math import isqrt

from onnxcam.grad.infer import Shape
from onnxcam.grad.node import Node
from onnxcam.inspection.parts import Input
from onnxcam.inspection.roles import Batch, Channel, Place, Roles, Tokens

GUESS = "a guess, for nothing in the graph tells"

_MAKES = frozenset({"Add", "Gelu", "LayerNormalization", "Relu"})
_BEFORE = (0, 1, 2, 5)  # tokens before the grid: class, distillation, four registers


def guessed(node: Node, shape: Shape, picture: Input) -> Roles | None:
    """Roles for what a node makes of unknown ones, where it looks like (samples, tokens, features); else None."""
    if node.op not in _MAKES or len(shape) != 3 or len(picture.size) != 2 or shape[0] != picture.batched.shape[0]:
        return None
    count, features = shape[1:]
    if not isinstance(count, int) or not isinstance(features, int) or count < 4 or features < 2:
        return None
    side = isqrt(count)
    before = count - side * side
    if before not in _BEFORE or before >= side:
        return (Batch(shape[0]),), (Place(0, "?"), Place(1, "?")), (Channel(features),)
    row = Tokens((Place(0, side), Place(1, side)), before, 0, GUESS)
    return (Batch(shape[0]),), (row,), (Channel(features),)
