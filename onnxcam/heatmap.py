"""From raw maps to a heat map, in pytorch-grad-cam's order: relu, min-max, resize, mean over layers, relu, min-max.

Written in the array API: numpy arrays give the map, values of a graph the subgraph that computes it. Where a sample's
map is nowhere positive the result is 0 everywhere: nothing to show, and no noise is blown up.
"""

from collections.abc import Callable, Sequence

from onnxcam.evidence import Array
from onnxcam.methods.array import minmax, relu, upsample

EPS = 1e-7  # pytorch-grad-cam's


def relu_minmax(raw: Array) -> Array:
    """Scale (N, *space) to 0..1 per sample: m = max(raw, 0), then (m − min) / (1e-7 + max(m − min)); float32."""
    xp = raw.__array_namespace__()
    return minmax(relu(xp.astype(raw, xp.float32)), tuple(range(1, len(raw.shape))), EPS)


def resize(maps: Array, size: Sequence[int]) -> Array:
    """Resize (N, *space) to (N, *size), float32: linear, half-pixel centres, no antialias (`cv2.INTER_LINEAR`)."""
    xp = maps.__array_namespace__()
    return upsample(xp.astype(maps, xp.float32), size)


def fuse(maps: Sequence[Array]) -> Array:
    """Make one map of several layers' (N, *size), each scaled and resized before: their mean, scaled to 0..1 again."""
    total = maps[0]
    for more in maps[1:]:
        total = total + more
    mean = total / len(maps) if len(maps) > 1 else total
    return minmax(mean, tuple(range(1, len(mean.shape))), EPS)  # which is 0 or more


def heatmap(raws: Sequence[Array], enlarge: Callable[[Array], Array]) -> Array:
    """The heat map (N, *size) in 0..1 of the raw maps of one or several layers; `enlarge` brings them to one size."""
    return fuse([enlarge(relu_minmax(raw)) for raw in raws])
