"""Arrays that can do only what values of a graph can: their batch has no number, and nothing is written in place.

A method that runs on them, and gives the numbers that it gives with numpy, can be traced into a model.
"""

import operator

import numpy as np


class Symbolic:
    """A numpy array behind the few operations that a graph has too."""

    def __init__(self, value):
        self.value = value

    @property
    def shape(self):
        return ("N", *self.value.shape[1:])

    @property
    def dtype(self):
        return self.value.dtype

    def __array_namespace__(self):
        return Namespace

    __hash__ = None
    __array_ufunc__ = None

    def __bool__(self):
        raise TypeError("the truth of a value is not known while a graph is written")

    def __iter__(self):
        raise TypeError("a batch has no length while a graph is written")


def unwrap(x):
    return x.value if isinstance(x, Symbolic) else x


def operation(function):
    return lambda *args, **kwargs: Symbolic(function(*map(unwrap, args), **kwargs))


for name in ("add", "sub", "mul", "truediv", "pow", "neg", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Symbolic, f"__{name}__", operation(getattr(operator, f"__{name}__")))
for name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Symbolic, f"__r{name}__", operation(getattr(np.ndarray, f"__r{name}__")))


class Namespace:
    """The functions that a graph offers, and the types that methods are computed in."""

    float32, float64 = np.float32, np.float64


for name in (
    *("sum", "mean", "max", "min", "where", "maximum", "abs", "exp"),
    *("reshape", "matmul", "expand_dims", "zeros_like", "permute_dims"),
):
    setattr(Namespace, name, staticmethod(operation(getattr(np, name))))
