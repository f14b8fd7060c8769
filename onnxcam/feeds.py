"""Arrays for the inputs of a model: what the caller gives, checked; which of them is the picture, and its size."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError
from onnxcam.grad.infer import Shape
from onnxcam.inspection import Input

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model; `picture` is the one that the map is drawn on, where that is known.

    Inside, every array has the samples first, and a picture has an axis for colours. Where the model takes it without
    one of these, `read` adds it and `given` takes it away: the border is here.
    """

    inputs: tuple[Input, ...]
    picture: Input | None
    classes: Shape = ()  # the score's sizes beside that of the samples

    def read(self, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
        """One array for a model with one input, or arrays by name; all of one length, one of them with places.

        Texts that each picture is compared with are counted by themselves: as many as the score has classes.
        Raises InputError otherwise.
        """
        names = [i.name for i in self.inputs]
        if isinstance(inputs, (str, os.PathLike)):
            raise InputError(f"Arrays are explained here, photos by explainer.images([{str(inputs)!r}]).")
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
        if self.bare:
            feeds = {i.name: _batch(i, feeds[i.name]) for i in self.inputs if i.name in feeds}
        feeds |= {i.name: _coloured(i, feeds[i.name]) for i in self.inputs if i.grey and i.name in feeds}
        lengths = {v.shape[0] if v.ndim else 0 for k, v in feeds.items() if k not in self._whole(feeds)}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(
                f"Every input needs the same number of samples, at least one; given are {sorted(lengths)}."
            )
        self.image(feeds)
        return feeds

    def given(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """A batch as the model takes it, with whatever else is fed to it."""
        own = {i.name for i in self.inputs} if self.bare else ()
        grey = {i.name for i in self.inputs if i.grey}
        return {k: v[0] if k in own else v[:, 0] if k in grey else v for k, v in feeds.items()}

    def image(self, feeds: Mapping[str, Array]) -> Input:
        """The input that the map is drawn on, as one of a batch."""
        pictures = (
            [self.picture] if self.picture else [i for i in self.inputs if i.name in feeds and feeds[i.name].ndim > 2]
        )
        if not pictures:
            shapes = ", ".join(f"'{name}' {list(value.shape)}" for name, value in feeds.items())
            raise InputError(
                f"No input of the model has samples, channels and places to draw a map on: given is {shapes}. Export "
                "it with an input N×C×H×W or N×H×W×C, or either of them without N."
            )
        return pictures[0].batched

    def space(self, feeds: Mapping[str, Array]) -> tuple[int, ...]:
        """Height and width of the picture that is given, or what space it has."""
        picture = self.image(feeds)
        return tuple(d for i, d in enumerate(feeds[picture.name].shape) if i not in (0, picture.channel_axis))

    def count(self, feeds: Mapping[str, Array]) -> int:
        """The number of samples."""
        return len(next(v for k, v in feeds.items() if k not in self._whole(feeds)))

    def part(self, feeds: Mapping[str, Array], samples: slice) -> dict[str, Array]:
        """Some of the samples, with what is the same for all of them."""
        whole = self._whole(feeds)
        return {k: v if k in whole else v[samples] for k, v in feeds.items()}

    def filled(self, feeds: Mapping[str, Array], more: int) -> dict[str, Array]:
        """The last sample again, `more` times."""
        whole = self._whole(feeds)
        return {k: v if k in whole else np.concatenate([v, np.repeat(v[-1:], more, axis=0)]) for k, v in feeds.items()}

    def _whole(self, feeds: Mapping[str, Array]) -> set[str]:
        """The inputs that are given to every sample, as texts are: their length is a size of the score's other axes.

        Where inference lost the name of that size: they have another name for their length, and another length.
        """
        picture = self.picture
        own = None if picture is None else picture.shape[0]
        lengths = {d for d in self.classes if isinstance(d, str) and d != own}
        whole = {i.name for i in self.inputs if i.name in feeds and i.shape and i.shape[0] in lengths}
        if whole or picture is None or self.bare or picture.name not in feeds or not feeds[picture.name].ndim:
            return whole
        count = len(feeds[picture.name])
        open_ = (i for i in self.inputs if i.name in feeds and i.shape and isinstance(i.shape[0], str))
        return {i.name for i in open_ if i.shape[0] != own and feeds[i.name].ndim and len(feeds[i.name]) != count}

    def masked(self, feeds: Mapping[str, Array], n: int, masks: Array) -> dict[str, Array]:
        """Sample `n` under each of the masks (count, *space): its picture times the mask, the other inputs repeated."""
        picture = self.image(feeds)
        whole = self._whole(feeds)
        batch = {k: v if k in whole else np.repeat(v[n : n + 1], len(masks), axis=0) for k, v in feeds.items()}
        own = feeds[picture.name][n : n + 1]
        batch[picture.name] = np.asarray(own * np.expand_dims(masks, picture.channel_axis), own.dtype)
        return batch

    @property
    def samples(self) -> int | None:
        """The number of samples that the model takes, where it is fixed."""
        if self.bare:
            return 1
        first = self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None
        return first if isinstance(first, int) else None

    @property
    def bare(self) -> bool:
        """Whether the model takes one picture, without an axis for samples."""
        return any(i.bare for i in self.inputs)


def _coloured(own: Input, array: Array) -> Array:
    """Grey pictures with an axis for their colour. Raises InputError for what has several colours."""
    if array.ndim == len(own.shape):
        return np.expand_dims(array, 1)
    if array.ndim != len(own.shape) + 1 or array.shape[1] != 1:
        shape = ", ".join(map(str, own.shape))
        raise InputError(f"Input '{own.name}' takes grey pictures [{shape}]; given is {list(array.shape)}.")
    return array


def _batch(own: Input, array: Array) -> Array:
    """An array as the model takes it, or several stacked: with the samples first. Raises InputError for another."""
    dims = len(own.shape)
    if array.ndim not in (dims, dims + 1):
        shape = ", ".join(map(str, own.shape))
        raise InputError(
            f"Input '{own.name}' takes [{shape}], or several stacked as [N, {shape}]; given is {list(array.shape)}."
        )
    return array if array.ndim > dims else array[None]
