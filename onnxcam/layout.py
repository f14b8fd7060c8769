"""Feature maps in one layout: (N, K, *space), whatever the model's own is. In the array API, for arrays and graphs."""

from collections.abc import Sequence
from math import log, prod

from onnxcam.errors import InputError
from onnxcam.evidence import Array
from onnxcam.inspection import Layer


def spatial(x: Array, layer: Layer, size: Sequence[Array | int] | None = None) -> Array:
    """Bring a layer's activation or gradient, of its own shape, to channels first: (N, K, *space).

    Tokens before and after the grid are dropped, windows put in their places. A grid that the model leaves open, or
    that was found for pictures of another size, has the proportions of `size`, the picture's height and width (in a
    graph, numbers of the graph where they are open); without it, it is a square, or that of the size it was found for.
    Raises InputError where no grid of the tokens there are comes near, with those that exist.
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
    if free and fold.axis == 0 and fold.layout == "tokens" and len(x.shape) == 3 and split[fold.order[0]] == -1:
        split[fold.order[0]] = x.shape[3 - layer.channel_axis]  # the same where tokens come first
    apart = fold.layout == "" and len(split) == len(x.shape) and len(fold.order) == 2 + sum(d != 1 for d in grid)
    if apart and free:  # an axis for the places of each direction, as long as it is
        split = list(x.shape)
        own = iter([split[i] for i in fold.order[2:]])
        grid = tuple(1 if d == 1 else next(own) for d in grid)
    elif -1 in grid or (fold.at and not _same(size, fold.at)):
        grid = _grid(x.shape[fold.axis], layer, size)
        for i, d in zip(fold.order[2:], grid, strict=True):
            split[i] = d
    folded = xp.permute_dims(xp.reshape(x, split), list(fold.order))
    return xp.reshape(folded, (split[fold.order[0]], split[fold.order[1]], *grid))


def _same(size: Sequence[Array | int] | None, at: Sequence[object]) -> bool:
    return size is not None and all(isinstance(d, int) for d in size) and tuple(size) == tuple(at)


def _longer(layer: Layer) -> float:
    """How much longer a place is than high, as a logarithm, in pictures of the size that the grid was found for."""
    at = layer.fold.at if layer.fold else ()
    sizes = [d for d in (*layer.grid, *at) if isinstance(d, int)]
    return log(sizes[0] / sizes[1]) - log(sizes[2] / sizes[3]) if len(sizes) == 4 else 0.0


def _grid(count: object, layer: Layer, size: Sequence[Array | int] | None) -> tuple[Array | int, ...]:
    """Height and width of `count` places whose grid the model leaves open, or that was found for another size."""
    if len(layer.grid) == 2 and layer.layout == "tokens" and layer.fold is not None:
        found = [d for d in (*layer.grid, *layer.fold.at) if isinstance(d, int)]
        if len(found) == 4:
            scaled = [_scaled(s, g, a) for s, g, a in zip(size or found[2:], found[:2], found[2:], strict=True)]
            if not all(isinstance(d, int) for d in scaled) or prod(scaled) == count:
                return tuple(scaled)
        if isinstance(count, int):
            return _nearest(count, layer, size)
    raise InputError(
        f"The grid of layer '{layer.name}' is known only when the model runs. Export the model for a fixed size, "
        "or choose a layer that has a grid."
    )


def _scaled(side: Array | int, places: int, at: int) -> Array | int:
    """How many places a side has that has `places` of them where it is `at` long, in whole patches where that fits."""
    step = at // places or 1
    return side // step if at // step == places else side * places // at


def _nearest(count: int, layer: Layer, size: Sequence[int] | None) -> tuple[int, int]:
    """The factors of `count` with the proportions of the picture; a square where these are not given."""
    choices = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    wanted = (log(size[0] / size[1]) if size and len(size) == 2 else 0.0) + _longer(layer)
    best = min(choices, key=lambda c: abs(log(c[0] / c[1]) - wanted))
    if abs(log(best[0] / best[1]) - wanted) > (log(1.2) if size else 0):
        said = ", ".join(f"{h}×{w}" for h, w in choices)
        shape = f"a picture of {size[0]}×{size[1]}" if size else "a square"
        raise InputError(f"Layer '{layer.name}' has {count} places in a row, and no grid of them fits {shape}: {said}.")
    return best
