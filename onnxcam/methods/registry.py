"""The table of methods. One row is one function from evidence to a raw map, with its paper and what it needs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin

from onnxcam.errors import InputError, unknown
from onnxcam.evidence import Array, Evidence

Uses = Literal["activation", "gradient", "weights", "rescore"]

_MEANING = {
    "gradient": "the gradient of the score with respect to the layer",
    "weights": "the weights of the linear layer that follows global average pooling",
    "rescore": "a way to run the model again (rescore)",
}


@dataclass(frozen=True)
class Option:
    """A keyword option of a method: its default, and all its values where these are few (`Literal`)."""

    default: object
    choices: tuple[object, ...] = ()


@dataclass(frozen=True)
class Method:
    """A named method, callable: `method(evidence, **options)` gives the raw map, (N, *space).

    The map is signed where the formula is, and not normalised: that is the view's work. It has the dtype of the
    activation; float16 is computed, and returned, in float32.
    Raises InputError for unknown options and for evidence that lacks what the method uses.
    """

    name: str
    function: Callable[..., Array] = field(repr=False)
    paper: str
    uses: Uses
    summary: str
    options: Mapping[str, Option] = field(hash=False)
    graph: bool = True

    def __call__(self, evidence: Evidence, **options: Any) -> Array:
        """Compute the raw map of every sample: (N, *space)."""
        self.check(options)
        if getattr(evidence, self.uses) is None:
            raise InputError(f"Method '{self.name}' needs {_MEANING[self.uses]}, and this evidence has none.")
        return self.function(_widened(evidence), **options)

    def check(self, options: Mapping[str, object]) -> None:
        """Raise InputError for an option that the method does not have, or a value that it does not take."""
        if not isinstance(options, Mapping):
            raise InputError(f"Options of a method come as a dict of names and values, not {options!r}.")
        for name, value in options.items():
            if name not in self.options:
                raise unknown(f"{self.name} option", name, self.options)
            choices = self.options[name].choices
            if choices and value not in choices:
                listed = ", ".join(map(str, choices))
                raise InputError(f"Option '{name}' of method '{self.name}' is {value!r}. It must be one of: {listed}.")


METHODS: dict[str, Method] = {}


def method(
    name: str, *, paper: str, uses: Uses, graph: bool = True
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Register a function as the method `name`: `@method("hirescam", paper="https://...", uses="gradient")`.

    The first line of its docstring is the summary, its keyword-only parameters are the options. `graph` tells whether
    values of a graph can take the place of its arrays.
    """

    def register(function: Callable[..., Array]) -> Callable[..., Array]:
        if name in METHODS:
            raise ValueError(f"method '{name}' is registered twice")
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        METHODS[name] = Method(name, function, paper, uses, summary, _options(function), graph)
        return function

    return register


def find(name: str) -> Method:
    """Look a method up by name; raises InputError with the closest names."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def _options(function: Callable[..., Array]) -> dict[str, Option]:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {p.name: Option(p.default, _choices(p.annotation)) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _choices(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _widened(evidence: Evidence) -> Evidence:
    """Give all arrays one dtype, wide enough for sums over channels and space: the activation's, or float32."""
    A = evidence.activation
    xp = A.__array_namespace__()
    dtype = A.dtype if A.dtype in (xp.float32, xp.float64) else xp.float32
    if dtype != A.dtype and not xp.isdtype(A.dtype, "real floating"):
        raise InputError(f"Evidence: activation holds {A.dtype}. Choose a layer whose values are floating point.")
    arrays = {f: getattr(evidence, f) for f in ("activation", "gradient", "weights")}
    narrow = {f: x for f, x in arrays.items() if x is not None and x.dtype != dtype}
    return replace(evidence, **{f: xp.astype(x, dtype) for f, x in narrow.items()}) if narrow else evidence
