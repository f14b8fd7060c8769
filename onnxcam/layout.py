"""Feature maps in one layout: (N, K, *space), whatever the model's own is. In the array API, for arrays and graphs."""

from math import isqrt

from onnxcam.errors import InputError
from onnxcam.evidence import Array
from onnxcam.inspection import Layer


def spatial(x: Array, layer: Layer) -> Array:
    """Bring a layer's activation or gradient, of its own shape, to channels first: (N, K, *space).

    Tokens before and after the grid are dropped, windows put in their places. Raises InputError where the grid of a
    sequence is known only by its length, and that is not a square.
    """
    xp = x.__array_namespace__()
    fold = layer.fold
    if fold is None:
        rest = [i for i in range(len(x.shape)) if i not in (0, layer.channel_axis)]
        return xp.permute_dims(x, [0, layer.channel_axis, *rest])
    if fold.prefix or fold.suffix:
        end = -fold.suffix if fold.suffix else None
        x = x[tuple(slice(fold.prefix, end) if i == fold.axis else slice(None) for i in range(len(x.shape)))]
    split, grid = _sizes(x, layer)
    folded = xp.permute_dims(xp.reshape(x, split), list(fold.order))
    return xp.reshape(folded, (split[fold.order[0]], split[fold.order[1]], *grid))


def _sizes(x: Array, layer: Layer) -> tuple[list[int], tuple[int, ...]]:
    """What to reshape to, and the grid, with numbers for what the model leaves open."""
    fold = layer.fold
    assert fold is not None  # noqa: S101 - asked for by the caller
    split, grid = list(fold.split), tuple(d if isinstance(d, int) else -1 for d in layer.grid)
    channels = x.shape[layer.channel_axis]
    if isinstance(channels, int):
        split[fold.order[1]] = channels
    if -1 not in grid:
        return split, grid
    places = x.shape[fold.axis]
    side = isqrt(places) if isinstance(places, int) else 0
    if len(split) != 4 or side * side != places:
        raise InputError(
            f"Layer '{layer.name}' is a sequence of {places} places, and their grid depends on the size of the "
            "picture. Export the model for a fixed size, or choose a layer with a grid."
        )
    for i in fold.order[2:]:
        split[i] = side
    return split, (side, side)
