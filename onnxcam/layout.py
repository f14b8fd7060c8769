"""Feature maps in one layout: (N, K, *space), whatever the model's own is. In the array API, for arrays and graphs."""

from collections.abc import Sequence
from math import log, prod

from onnxcam.errors import InputError
from onnxcam.evidence import Array
from onnxcam.inspection import Layer
from onnxcam.inspection.parts import Fold


def spatial(x: Array, layer: Layer, size: Sequence[int] | None = None) -> Array:
    """Bring a layer's activation or gradient, of its own shape, to channels first: (N, K, *space).

    Tokens before and after the grid are dropped, windows put in their places. A grid that the model leaves open, or
    that was found for pictures of another size, has the proportions of `size`, the picture's height and width; without
    it, it is a square, or that of the size it was found for. Raises InputError where no grid of the tokens there are
    comes near, with those that exist.
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
    free = bool(fold.at) or -1 in grid
    if free and split[0] == -1 and fold.layout == "tokens" and 0 not in (fold.axis, layer.channel_axis):
        split[0] = x.shape[0]  # and not what is left: of another number of places that would be another of samples
    count = x.shape[fold.axis]
    apart = fold.layout == "" and len(split) == len(x.shape) and len(fold.order) == 2 + sum(d != 1 for d in grid)
    if apart and free:  # an axis for the places of each direction, as long as it is
        split = list(x.shape)
        own = iter([split[i] for i in fold.order[2:]])
        grid = tuple(1 if d == 1 else next(own) for d in grid)
    elif -1 in grid or not _holds(fold, prod(grid), count, size):
        grid = _grid(count, layer, size)
        for i, d in zip(fold.order[2:], grid, strict=True):
            split[i] = d
    folded = xp.permute_dims(xp.reshape(x, split), list(fold.order))
    return xp.reshape(folded, (split[fold.order[0]], split[fold.order[1]], *grid))


def _holds(fold: Fold, places: int, count: object, size: Sequence[int] | None) -> bool:
    """Whether the grid that was found is that of a picture of this size, or of any where none is given."""
    if not fold.at or size is not None:
        return not fold.at or tuple(size or ()) == fold.at
    known = isinstance(count, int) and fold.layout == "tokens"
    return count == places if known else len(set(fold.at)) == 1  # the same when the picture is turned


def _longer(layer: Layer) -> float:
    """How much longer a place is than high, as a logarithm, in pictures of the size that the grid was found for."""
    at = layer.fold.at if layer.fold else ()
    sizes = [d for d in (*layer.grid, *at) if isinstance(d, int)]
    return log(sizes[0] / sizes[1]) - log(sizes[2] / sizes[3]) if len(sizes) == 4 else 0.0


def _grid(count: object, layer: Layer, size: Sequence[int] | None) -> tuple[int, int]:
    """Height and width of `count` places whose grid the model leaves open."""
    if not isinstance(count, int) or len(layer.grid) != 2 or layer.layout != "tokens":
        raise InputError(
            f"The grid of layer '{layer.name}' is known only when the model runs. Export the model for a fixed size, "
            "or choose a layer that has a grid."
        )
    choices = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    wanted = (log(size[0] / size[1]) if size and len(size) == 2 else 0.0) + _longer(layer)
    best = min(choices, key=lambda c: abs(log(c[0] / c[1]) - wanted))
    if abs(log(best[0] / best[1]) - wanted) > (log(1.2) if size else 0):
        said = ", ".join(f"{h}×{w}" for h, w in choices)
        shape = f"a picture of {size[0]}×{size[1]}" if size else "a square"
        raise InputError(f"Layer '{layer.name}' has {count} places in a row, and no grid of them fits {shape}: {said}.")
    return best
