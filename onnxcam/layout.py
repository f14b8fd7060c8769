"""Feature maps in one layout: (N, K, *space), whatever the model's own is. In the array API, for arrays and graphs."""

from collections.abc import Sequence
from math import log

from onnxcam.errors import InputError
from onnxcam.evidence import Array
from onnxcam.inspection import Layer


def spatial(x: Array, layer: Layer, size: Sequence[int] | None = None) -> Array:
    """Bring a layer's activation or gradient, of its own shape, to channels first: (N, K, *space).

    Tokens before and after the grid are dropped, windows put in their places. A grid that the model leaves open has the
    proportions of `size`, the picture's height and width; without it, it is a square. Raises InputError where no grid
    of the tokens there are comes near, with those that exist.
    """
    xp = x.__array_namespace__()
    fold = layer.fold
    if fold is None:
        rest = [i for i in range(len(x.shape)) if i not in (0, layer.channel_axis)]
        return xp.permute_dims(x, [0, layer.channel_axis, *rest])
    if fold.prefix or fold.suffix:
        end = -fold.suffix if fold.suffix else None
        x = x[tuple(slice(fold.prefix, end) if i == fold.axis else slice(None) for i in range(len(x.shape)))]
    split, grid = list(fold.split), tuple(d if isinstance(d, int) else -1 for d in layer.grid)
    if isinstance(x.shape[layer.channel_axis], int):
        split[fold.order[1]] = x.shape[layer.channel_axis]
    if -1 in grid:
        grid = _grid(x.shape[fold.axis], layer, size)
        for i, d in zip(fold.order[2:], grid, strict=True):
            split[i] = d
    folded = xp.permute_dims(xp.reshape(x, split), list(fold.order))
    return xp.reshape(folded, (split[fold.order[0]], split[fold.order[1]], *grid))


def _grid(count: object, layer: Layer, size: Sequence[int] | None) -> tuple[int, int]:
    """Height and width of `count` places whose grid the model leaves open."""
    if not isinstance(count, int) or len(layer.grid) != 2 or layer.layout != "tokens":
        raise InputError(
            f"The grid of layer '{layer.name}' is known only when the model runs. Export the model for a fixed size, "
            "or choose a layer that has a grid."
        )
    choices = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    wanted = log(size[0] / size[1]) if size and len(size) == 2 else 0.0
    best = min(choices, key=lambda c: abs(log(c[0] / c[1]) - wanted))
    if abs(log(best[0] / best[1]) - wanted) > (log(1.2) if size else 0):
        said = ", ".join(f"{h}×{w}" for h, w in choices)
        shape = f"a picture of {size[0]}×{size[1]}" if size else "a square"
        raise InputError(f"Layer '{layer.name}' has {count} places in a row, and no grid of them fits {shape}: {said}.")
    return best
