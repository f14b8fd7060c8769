"""One run of a model, where only that tells the shapes of its tensors.

What comes out of a loop or of somebody's own operator has a rank that no inference gives, and behind it nobody can tell
what is a place of the picture. The model is run twice, with other values, and with other sizes wherever it leaves them
open: what stays the same is a number, what follows the samples is the batch, the rest stays open. A model with sizes
that follow from values, as of the boxes that it finds, is left alone: two runs prove nothing there.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx

from onnxcam import inspection
from onnxcam.errors import OnnxcamError
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Dim, Shape, Type
from onnxcam.inspection import Inspection
from onnxcam.inspection.inputs import read_input
from onnxcam.inspection.walk import descendants
from onnxcam.model import ModelLike, Source
from onnxcam.run import Session

_SAMPLES, _SIDES = (1, 2), (224, 256)  # of the two runs
_SHAPE = "shape of "
_BY_VALUE = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
_MOST = 1 << 28  # bytes of weights in a model that is run just to be looked at


def inspect(model: ModelLike, *, score: str = "auto") -> Inspection:
    """Look into a model: feature maps best first, scores, inputs, operators without a gradient, preprocessing, classes.

    Shapes that nothing but a run tells are learned by one, where onnxruntime is installed.
    Raises ModelError for a file that cannot be read, InputError for an unknown `score`.
    """
    return inspection.inspect(model, score=score, informed=informed)


def informed(source: Source, forward: Forward) -> Forward:
    """The graph with the shapes that a run tells; the graph itself where it needs none, or cannot be run."""
    moving = descendants(forward, forward.inputs)
    blind = any(forward.has_type(n) and forward.type(n).shape is None for n in moving)
    if not blind or source.proto.ByteSize() > _MOST or not _BY_VALUE.isdisjoint(_operators(source.proto.graph.node)):
        return forward
    names = sorted(n for n in moving - set(forward.inputs) if forward.has_type(n) and not forward.type(n).is_static)
    try:
        return Forward(source.proto, source.folder, _learned(source, forward, names))
    except OnnxcamError:
        return forward  # no runtime, or one that refuses it: what inference tells has to do


def _operators(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """The operators of a graph and of those inside it."""
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            yield from _operators(attribute.g.node)


def _learned(source: Source, forward: Forward, names: list[str]) -> dict[str, Type]:
    """The types of tensors, from the shapes that they have in two runs."""
    extended = onnx.ModelProto()
    extended.CopyFrom(source.proto)
    del extended.graph.output[:]
    for name in names:
        extended.graph.node.append(onnx.helper.make_node("Shape", [name], [_SHAPE + name]))
        extended.graph.output.append(onnx.ValueInfoProto(name=_SHAPE + name))
    session = Session(extended.SerializeToString(), source.folder if source.external else "", "CPUExecutionProvider")
    first, second = (session.run({n: _input(forward, n, run) for n in forward.inputs}) for run in (0, 1))
    shapes = {n: (first[_SHAPE + n].tolist(), second[_SHAPE + n].tolist()) for n in names}
    return {n: Type(forward.type(n).dtype, _shape(n, *shapes[n], _batch(forward))) for n in names}


def _input(forward: Forward, name: str, run: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """An input of one run, zeros or noise: the samples first, every other open size that of a picture."""
    type_ = forward.type(name)
    first = _SIDES[run] if read_input(forward, name).bare else _SAMPLES[run]
    shape = [d if isinstance(d, int) else _SIDES[run] if i else first for i, d in enumerate(type_.shape or ())]
    values = np.random.default_rng(0).random(shape) if run else np.zeros(shape)
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(type_.dtype))


def _batch(forward: Forward) -> Dim:
    shapes: list[Shape] = [s for n in forward.inputs if (s := forward.type(n).shape)]
    return shapes[0][0] if shapes else 1


def _shape(name: str, first: Sequence[int], second: Sequence[int], batch: Dim) -> Shape | None:
    """What two runs say of a shape."""
    if len(first) != len(second):
        return None
    pairs = enumerate(zip(first, second, strict=True))
    return tuple(m if m == n else batch if (m, n) == _SAMPLES else f"{name}:{i}" for i, (m, n) in pairs)
