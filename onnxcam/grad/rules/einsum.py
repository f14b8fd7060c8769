"""Einsum: the gradient of an operand is an Einsum of g and the other operands that has the operand's term as result.

An ellipsis is written out with letters of its own, aligned at its end as broadcasting is. What an Einsum cannot give
back is done after it: along a letter that only this operand has, which was summed away, the gradient is the same; of a
letter that its term has twice the diagonal was taken, so the gradient lies on the diagonal; and where the operand has
length 1 and others have more it was stretched, so the gradient is summed.
"""

from collections.abc import Sequence
from string import ascii_letters

from onnxcam.grad.infer import Dim, Type
from onnxcam.grad.registry import variadic
from onnxcam.grad.scatter import numbers, one_hot
from onnxcam.grad.shapes import expand_like, sizes, sum_to
from onnxcam.grad.tensor import Value, op


def einsum(g: Value, y: Value, index: int, *xs: Value, equation: str) -> Value:
    """The gradient of one operand."""
    terms, result = _terms(equation, [x.rank for x in xs])
    x, own = xs[index], terms[index]
    others = [(t, v) for i, (t, v) in enumerate(zip(terms, xs, strict=True)) if i != index]
    given = set(result).union(*(t for t, _ in others))
    kept = "".join(c for c in dict.fromkeys(own) if c in given)
    core = g
    if others or kept != result:
        inputs = ",".join([result, *(t for t, _ in others)])
        core = op.Einsum(g, *[v for _, v in others], equation=f"{inputs}->{kept}")
    first = [p for p, c in enumerate(own) if own.index(c) == p and c in given]
    if len(first) < x.rank:
        core = op.Unsqueeze(core, axes=[p for p in range(x.rank) if p not in first])
    for p, c in enumerate(own):
        if own.index(c) != p:
            core = core * _diagonal(x, own.index(c), p)
    return _fitted(core, x, own, others, result)


variadic("Einsum", einsum)


def _terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The operands' terms and the result's, one letter for each dimension."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    spare = [c for c in ascii_letters if c not in equation]
    terms = left.split(",")
    wide = max(rank - len(t) + 3 if "..." in t else 0 for t, rank in zip(terms, ranks, strict=True))
    dots = "".join(spare[:wide])
    written = [
        t.replace("...", dots[wide - (rank - len(t) + 3) :] if "..." in t else "")
        for t, rank in zip(terms, ranks, strict=True)
    ]
    if not arrow:
        right = "..." + "".join(sorted(c for c in set(left) - set(".,") if left.count(c) == 1))
    return written, right.replace("...", dots)


def _fitted(core: Value, x: Value, own: str, others: Sequence[tuple[str, Value]], result: str) -> Value:
    """`core`, with the axes of `x`, summed where `x` was stretched and stretched where it was summed away."""
    dims: list[Dim] = []
    short = False
    for c, size in zip(own, x.shape, strict=True):
        beside = {d for term, v in others for t, d in zip(term, v.shape, strict=True) if t == c} - {1}
        covered = c in result or size in beside
        short |= not covered and size != 1
        dims.append(next(iter(beside - {size}), size))
    typed = core.tape.retype(core, Type(core.dtype, tuple(dims)))
    summed = sum_to(typed, typed, x)
    return expand_like(summed.tape.retype(summed, Type(x.dtype, None)), x) if short else summed


def _diagonal(x: Value, first: int, second: int) -> Value:
    """1 where the places along two axes of `x` are the same."""
    size = sizes(x, [first])
    eye = one_hot(numbers(size), size, x.dtype)
    apart = [a for a in range(x.rank) if a not in (first, second)]
    return op.Unsqueeze(eye, axes=apart) if apart else eye
