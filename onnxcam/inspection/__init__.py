"""What is in a model: inputs, scores, feature maps worth explaining, and what stands between them.

The last feature map is the best default: it is where Grad-CAM is defined, and where a gradient costs least.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace

import onnxcam.grad.rules  # noqa: F401 - fills the registry, which tells what is missing
from onnxcam.errors import ModelError, unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.grad.prepare import hold, prepare
from onnxcam.grad.quantized import dequantized
from onnxcam.grad.reverse import missing
from onnxcam.grad.tensor import Tape
from onnxcam.inspection import contractions, movement  # noqa: F401 - they fill the table of `follow`
from onnxcam.inspection.follow import follow
from onnxcam.inspection.inputs import read_input
from onnxcam.inspection.joining import joined
from onnxcam.inspection.layers import find_layers, image_sources
from onnxcam.inspection.parts import Boxes, Input, Layer, Score
from onnxcam.inspection.preparation import photographs, prepared
from onnxcam.inspection.scores import find_scores, named_score, zipped_names
from onnxcam.inspection.sized import at_size, opened
from onnxcam.inspection.towers import with_levels
from onnxcam.inspection.walk import HELD
from onnxcam.model import ModelLike, Source, read
from onnxcam.original import facts, without
from onnxcam.preprocessing import Preprocess, count_names, find_names

__all__ = ["Boxes", "Informed", "Input", "Inspection", "Layer", "Score", "graph", "inspect", "look"]


Informed = Callable[[Source, Forward], Forward]


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found: `layers` and `scores` best first, `missing` operators, and what `explain` takes by itself.

    `assumed` are lines on where `preprocess` is from, or why it was guessed; `labels_from` is the file beside the model
    that `labels` are from, None for its own. Of an explainable file, all of it is about the original inside, and
    `explains` is what its metadata says (`cam.layers`, `cam.method`, …).
    """

    layers: tuple[Layer, ...]
    scores: tuple[Score, ...]
    inputs: tuple[Input, ...]
    missing: tuple[str, ...]
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    opset: int
    producer: str
    sources: Mapping[str, frozenset[str]]
    assumed: tuple[str, ...] = ()
    labels_from: str | None = None
    explains: Mapping[str, str] = field(default_factory=dict)

    def layer(self, name: str) -> Layer:
        """The feature map of that node or tensor name. Raises InputError with the closest names."""
        for layer in self.layers:
            if name in (layer.name, layer.tensor):
                return layer
        raise unknown("layer", name, [layer.name for layer in self.layers])

    def image(self) -> Input:
        """The input that takes the picture. Raises ModelError where none looks like one."""
        for candidate in self.inputs:
            if candidate.layout:
                return candidate
        shapes = ", ".join(f"'{i.name}' {list(i.shape)}" for i in self.inputs)
        raise ModelError(
            f"No input of the model looks like an image (N×C×H×W or N×H×W×C): there is {shapes or 'none'}."
        )

    def sees(self, layer: Layer) -> Input | None:
        """The image input that a layer depends on; None where there is none, or the layer is made from others."""
        return next((i for i in self.inputs if i.layout and i.name in self.sources.get(layer.tensor, ())), None)

    def to_json(self) -> str:
        """Everything as one JSON object."""
        found = dataclasses.asdict(replace(self, sources={}, explains=dict(self.explains)))
        del found["sources"]
        for row, layer in zip(found["layers"], self.layers, strict=True):
            row |= {"layout": layer.layout, "grid": layer.grid}
        return json.dumps(found, indent=2)


def inspect(model: ModelLike, *, score: str = "auto", informed: Informed | None = None) -> Inspection:
    """Look into a model: feature maps best first, scores, inputs, operators without a gradient, preprocessing, classes.

    `informed` adds to the graph what inference does not tell.
    Raises ModelError for a file that cannot be read, InputError for an unknown `score`.
    """
    source = read(model)
    told = facts(source.proto)
    if told:
        source = without(source)
        score = told["cam.score"] if score == "auto" else score
    return replace(look(source, graph(source, told, informed), score, told), explains=told)


def graph(source: Source, told: Mapping[str, str], informed: Informed | None = None) -> Forward:
    """The graph of a model, with what `informed` adds; of a detector that answers in pieces, with these joined."""
    forward = Forward(source.proto, source.folder)
    forward = informed(source, forward) if informed else forward
    said = {p.key: p.value for p in source.proto.metadata_props} | dict(told)
    inputs = [read_input(forward, name) for name in forward.inputs]
    return joined(source, forward, inputs, count_names(said, source.path), said)


def look(source: Source, forward: Forward, score: str = "auto", told: Mapping[str, str] | None = None) -> Inspection:
    """`inspect` on a graph that has been read already; `told` is metadata beyond the file's own."""
    inputs = tuple(read_input(forward, name) for name in forward.inputs)
    said = zipped_names(forward) | {p.key: p.value for p in source.proto.metadata_props} | dict(told or {})
    made = prepared(source, forward, photographs(inputs), None, said)
    sized = at_size(source, forward, inputs, None if made is None else made.preprocess)
    given = inputs if sized is forward else tuple(read_input(sized, name) for name in sized.inputs)
    traces = follow(sized, given)
    names = count_names(said, source.path)
    scores = find_scores(sized, traces, names, said, bare=any(i.bare for i in inputs))
    if score != "auto":
        scores = (named_score(sized, score, scores),)
    layers: tuple[Layer, ...] = ()
    for candidate in scores:
        layers = find_layers(sized, traces, given, candidate.tensor)
        layers = with_levels(sized, candidate, layers)
        if layers:
            scores = (candidate, *(s for s in scores if s is not candidate))
            break
    if sized is not forward:
        layers, scores = opened(forward, given, layers, scores)
    lost = _missing(forward, scores[0].tensor, layers[0].tensor) if layers else []
    sources = image_sources(forward, inputs, layers)
    seen = sources.get(layers[0].tensor, ()) if layers else ()
    found = prepared(source, forward, photographs(inputs, seen), scores[0], said)
    if sized is not forward and found is not None and found.guessed and found.preprocess.size is not None:
        able = at_size(source, forward, inputs, found.preprocess)
        taken = [read_input(able, name) for name in able.inputs]
        if found.preprocess.size not in [i.size for i in taken]:
            found = prepared(source, able, photographs(taken, seen), scores[0], said)
    labels, labels_from = find_names(said, source.path, scores[0].named)
    return Inspection(
        layers, scores, inputs, tuple(str(n) for n in lost), None if found is None else found.preprocess, labels,
        forward.opsets[""], f"{source.proto.producer_name} {source.proto.producer_version}".strip(),
        sources, () if found is None else found.said, labels_from,
    )  # fmt: skip


def _missing(forward: Forward, score: str, layer: str) -> list[Node]:
    """Operators between layer and score without a gradient, after all rewrites."""
    prepared = copy(forward)
    tape = Tape(prepared)
    score, layer = (dequantized(name, prepared, tape) for name in (score, layer))
    prepare(prepared, tape, keep=[layer], of=score)
    hold(prepared, tape, HELD)
    return missing(prepared, score, [layer])
