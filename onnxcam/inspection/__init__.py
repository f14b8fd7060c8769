"""What is in a model: inputs, scores, feature maps worth explaining, and what stands between them.

The last feature map is the best default: it is where Grad-CAM is defined, and where a gradient costs least.
"""

import dataclasses
import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import onnxcam.grad.rules  # noqa: F401 - fills the registry, which tells what is missing
from onnxcam import metadata
from onnxcam.errors import ModelError, unknown
from onnxcam.grad.forward import Forward, Node
from onnxcam.grad.prepare import prepare
from onnxcam.grad.quantized import dequantized
from onnxcam.grad.reverse import missing
from onnxcam.grad.tensor import Tape
from onnxcam.inspection.inputs import read_input
from onnxcam.inspection.layers import channel_axes, find_layers, image_sources
from onnxcam.inspection.parts import Input, Layer, Score
from onnxcam.inspection.scores import find_scores, named_score
from onnxcam.model import ModelLike, Source, read

__all__ = ["Input", "Inspection", "Layer", "Score", "inspect", "look"]


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found: `layers` and `scores` best first, `missing` operators, `preprocess` as the file has it."""

    layers: tuple[Layer, ...]
    scores: tuple[Score, ...]
    inputs: tuple[Input, ...]
    missing: tuple[str, ...]
    preprocess: Mapping[str, object] | None
    labels: tuple[str, ...] | None
    opset: int
    producer: str
    sources: Mapping[str, frozenset[str]]

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
        found = dataclasses.asdict(dataclasses.replace(self, sources={}))
        del found["sources"]
        for row, layer in zip(found["layers"], self.layers, strict=True):
            row |= {"layout": layer.layout, "grid": layer.grid}
        return json.dumps(found, indent=2)


def inspect(model: ModelLike, *, score: str = "auto") -> Inspection:
    """Look into a model: feature maps best first, scores, inputs, operators without a gradient, preprocessing, classes.

    Raises ModelError for a file that cannot be read, InputError for an unknown `score`.
    """
    source = read(model)
    return look(source, Forward(source.proto, source.folder), score)


def look(source: Source, forward: Forward, score: str = "auto") -> Inspection:
    """`inspect` on a graph that has been read already."""
    inputs = tuple(read_input(forward, name) for name in forward.inputs)
    channels = channel_axes(forward, inputs)
    scores = find_scores(forward) if score == "auto" else (named_score(forward, score),)
    layers: tuple[Layer, ...] = ()
    for candidate in scores:
        layers = find_layers(forward, channels, candidate.tensor)
        if layers:
            scores = (candidate, *(s for s in scores if s is not candidate))
            break
    lost = _missing(forward, scores[0].tensor, layers[0].tensor) if layers else []
    said = {p.key: p.value for p in source.proto.metadata_props}
    return Inspection(
        layers, scores, inputs, tuple(str(n) for n in lost), metadata.preprocess(said), metadata.labels(said),
        forward.opsets[""], f"{source.proto.producer_name} {source.proto.producer_version}".strip(),
        image_sources(forward, inputs, layers),
    )  # fmt: skip


def _missing(forward: Forward, score: str, layer: str) -> list[Node]:
    """Operators between layer and score without a gradient, after all rewrites."""
    prepared = copy(forward)
    tape = Tape(prepared)
    score, layer = (dequantized(name, prepared, tape) for name in (score, layer))
    prepare(prepared, tape, keep=[layer], of=score)
    return missing(prepared, score, [layer])
