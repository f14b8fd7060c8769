"""The feature maps that a detector's boxes are told by: those that the towers of its last convolutions stand on."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.inspection.parts import Layer, Score
from onnxcam.inspection.walk import REGIONS, in_regions, ints, plain, shape_of

SMALL = 4096  # elements of a factor or a bias


def with_levels(forward: Forward, score: Score, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The feature maps of a detector's boxes first; they have channels second, since convolutions read them."""
    levels = score.boxes.levels if score.boxes else ()
    known = {layer.tensor: layer for layer in layers}
    producers = forward.producers()
    repeated = Counter(node.name for node in forward.nodes)
    found = []
    for tensor in levels:
        node = producers[tensor]
        name = node.name if node.name and repeated[node.name] == 1 else tensor
        why = "the convolutions that make the boxes' scores read it"
        made = Layer(name, tensor, node.op, forward.type(tensor).shape or (), 1)
        found.append(replace(known.get(tensor, made), why=why))
    return (*found, *(layer for layer in layers if layer.tensor not in levels))


_TOWER = frozenset({
    "Add", "BatchNormalization", "Clip", "Div", "HardSigmoid", "HardSwish", "InstanceNormalization", "LeakyRelu", "Mul",
    "PRelu", "Relu", "Reshape", "Sigmoid", "Softplus", "Tanh", "Mish",
})  # fmt: skip


def levels_of(forward: Forward, score: str) -> list[str]:
    """What the convolutions that make the score read, or what regions for it are cut from.

    Behind their towers: where other branches begin as well. What is made of another one by a tower is none.
    """
    producers, readers, cut = forward.producers(), forward.consumers(), in_regions(forward)
    waiting, seen, found = [score], {score}, dict[str, None]()
    towers: list[_Tower] = []
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        if plain(node) in REGIONS:
            found |= dict.fromkeys(node.inputs[:1])
            continue
        if plain(node) == "Conv" and node.inputs[0] not in cut:
            towers.append(_tower(forward, producers, readers, node))
            continue
        for name in node.inputs:
            if name not in seen and forward.has_type(name) and forward.type(name).is_float:
                seen.add(name)
                waiting.append(name)
    heights = {tower.height for tower in towers} - {None}
    common = heights.pop() if len(heights) == 1 else None
    bases = [_base(forward, producers, tower, common) for tower in towers]
    found |= dict.fromkeys(base for base in bases if base is not None)
    return [x for x in found if not any(y in found for y in _below(forward, producers, x))]


@dataclass(frozen=True)
class _Tower:
    """Maps from the last one down, each made of the next by a convolution; `height`: which of them other ones read."""

    maps: tuple[str, ...]
    height: int | None


def _base(forward: Forward, producers: Mapping[str, Node], tower: _Tower, common: int | None) -> str | None:
    """The map that a tower stands on: where others begin; where none does, as high as the `common` ones, or its last.

    The coarsest level has no other that would be made of it.
    """
    if tower.height is not None:
        return tower.maps[tower.height]
    last = tower.maps[0]
    if common is not None and common < len(tower.maps):
        base = tower.maps[common]
        if base in producers and shape_of(forward, base)[2:] == shape_of(forward, last)[2:]:
            return base
    return last if last in producers and producers[last].op in _TOWER else None


def _below(forward: Forward, producers: Mapping[str, Node], name: str) -> Iterator[str]:
    """The maps below one in its tower, as far as convolutions keep the size."""
    node = producers.get(name)
    while node is not None and (node.op in _TOWER or _keeps_size(forward, node)):
        inside = node.op in _TOWER
        node = _maker(forward, producers, node) if inside else producers.get(name := node.inputs[0])
        if not inside:
            yield name


def _keeps_size(forward: Forward, node: Node) -> bool:
    """Whether a node is a convolution of steps of one place, with as many places after it as before."""
    shapes = [shape_of(forward, n)[2:] for n in (node.inputs[0], node.outputs[0])]
    if plain(node) != "Conv" or any(s != 1 for s in ints(node.attributes.get("strides"))):
        return False
    if all(isinstance(d, int) for shape in shapes for d in shape):
        return shapes[0] == shapes[1]
    kernel = shape_of(forward, node.inputs[1])[2:]
    dilations = ints(node.attributes.get("dilations")) or [1] * len(kernel)
    pads = ints(node.attributes.get("pads")) or [0] * 2 * len(kernel)
    around = [a + b for a, b in zip(pads, pads[len(kernel) :], strict=False)]
    same = "SAME" in str(node.attributes.get("auto_pad", ""))
    return same or around == [(int(k) - 1) * d for k, d in zip(kernel, dilations, strict=True)]


def _tower(forward: Forward, producers: Mapping[str, Node], readers: Mapping[str, list[Node]], head: Node) -> _Tower:
    """The tower under a last convolution, down to a map that two convolutions read, or to what is made otherwise."""
    maps = [head.inputs[0]]
    while True:
        if maps[-1] in producers and sum(plain(r) == "Conv" for r in readers.get(maps[-1], ())) > 1:
            return _Tower(tuple(maps), len(maps) - 1)
        node = producers.get(maps[-1])
        while node is not None and node.op in _TOWER:
            node = _maker(forward, producers, node)
        if node is None or plain(node) != "Conv":
            return _Tower(tuple(maps), None)
        maps.append(node.inputs[0])


def _maker(forward: Forward, producers: Mapping[str, Node], node: Node) -> Node | None:
    """What makes the input of a step of a tower: the one input, or the x of x · gate(x), as Swish and HardSwish are."""
    if node.op not in ("Add", "Div", "Mul"):
        return producers.get(node.inputs[0])
    made = _moving(forward, producers, node)
    for x, gate in (made, made[::-1]) if len(made) == 2 else ():
        step = producers[gate]
        while step.op in _TOWER and len(below := _moving(forward, producers, step)) == 1 and gate != x:
            gate = below[0]
            step = producers[gate]
        if gate == x:
            return producers[x]
    return producers[made[0]] if len(made) == 1 else None


def _moving(forward: Forward, producers: Mapping[str, Node], node: Node) -> list[str]:
    """The inputs of a node that are no constants."""
    return [i for i in node.inputs if i in producers and forward.constant(i, SMALL) is None]
