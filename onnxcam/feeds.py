"""Arrays for the inputs of a model: what the caller gives, checked; which of them is the picture, and its size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError
from onnxcam.inspection import Input

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model; `picture` is the one that the map is drawn on, where that is known."""

    inputs: tuple[Input, ...]
    picture: Input | None

    def read(self, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
        """One array for a model with one input, or arrays by name; all of one length. Raises InputError otherwise."""
        names = [i.name for i in self.inputs]
        if not isinstance(inputs, Mapping) and len(names) == 1:
            inputs = {names[0]: inputs}
        if not isinstance(inputs, Mapping):
            raise InputError(f"The model has {len(names)} inputs: give a dict of arrays for {', '.join(names)}.")
        strange = [name for name in inputs if name not in names]
        if strange:
            raise InputError(f"The model has no input '{strange[0]}'. It takes: {', '.join(names)}.")
        try:
            feeds = {k: np.asarray(v) for k, v in inputs.items()}
        except ValueError as error:
            raise InputError(f"What is given is no array: {error}.") from error
        lengths = {v.shape[0] if v.ndim else 0 for v in feeds.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(
                f"Every input needs the same number of samples, at least one; given are {sorted(lengths)}."
            )
        return feeds

    def image(self, feeds: Mapping[str, Array]) -> Input:
        """The input that the map is drawn on."""
        pictures = [self.picture] if self.picture else [i for i in self.inputs if feeds[i.name].ndim > 2]
        if not pictures:
            raise InputError("No input of the model has a spatial extent to draw a map on.")
        return pictures[0]

    def space(self, feeds: Mapping[str, Array]) -> tuple[int, ...]:
        """Height and width of the picture that is given, or what space it has."""
        picture = self.image(feeds)
        return tuple(d for i, d in enumerate(feeds[picture.name].shape) if i not in (0, picture.channel_axis))

    def masked(self, feeds: Mapping[str, Array], n: int, masks: Array) -> dict[str, Array]:
        """Sample `n` under each of the masks (count, *space): its picture times the mask, the other inputs repeated."""
        picture = self.image(feeds)
        batch = {k: np.repeat(v[n : n + 1], len(masks), axis=0) for k, v in feeds.items()}
        own = feeds[picture.name][n : n + 1]
        batch[picture.name] = np.asarray(own * np.expand_dims(masks, picture.channel_axis), own.dtype)
        return batch

    @property
    def samples(self) -> int | None:
        """The number of samples that the model takes, where it is fixed."""
        first = self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None
        return first if isinstance(first, int) else None
