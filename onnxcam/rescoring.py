"""Scores of masked inputs: what methods ask for that look at the model from outside, as Score-CAM does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.aimed import Asked
from onnxcam.aims import NUMBER
from onnxcam.feeds import Inputs
from onnxcam.plan import SCORE
from onnxcam.rows import probabilities
from onnxcam.target import Floats, Ints, totals

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]
Run = Callable[[Mapping[str, Array], Ints | Mapping[str, Array], Sequence[str] | None], dict[str, Array]]


@dataclass(frozen=True)
class Rescoring:
    """The `rescore` of `onnxcam.evidence.Evidence`, for one batch and one target a sample."""

    inputs: Inputs
    run: Run
    feeds: Mapping[str, Array]
    wanted: Ints | Sequence[Asked]
    batch: int
    activation: str | None
    progress: Progress | None

    def __call__(self, mask: Callable[[int, slice], Array], count: int, *, probability: bool = False) -> Floats:
        """Scores of masked inputs (N, count), a batch of masks at a time."""
        scores = np.zeros((len(self.wanted), count), np.float32)
        for n, wanted in enumerate(self.wanted):
            for start, stop in steps(count, self.batch):
                batch = self.inputs.masked(self.feeds, n, np.asarray(mask(n, slice(start, stop))))
                scores[n, start:stop] = self._answers(batch, wanted, stop - start, probability)
                if self.progress:
                    self.progress("scoring masks", n * count + stop, len(self.wanted) * count)
        return scores

    def _answers(self, batch: Mapping[str, Array], wanted: np.int64 | Asked, count: int, probability: bool) -> Floats:
        """What each of `count` inputs says of one target, [count]."""
        if isinstance(wanted, tuple):
            given = {name: np.repeat(v, count, axis=0) for name, v in wanted[0].items()}
            return np.asarray(self.run(batch, given, [NUMBER])[NUMBER].reshape(count, -1)[:, wanted[1]])
        answer = totals(self.run(batch, np.full(count, wanted), [SCORE])[SCORE])
        likely = probabilities(answer, self.activation) if probability else None
        return np.asarray((answer if likely is None else likely)[:, wanted])


def steps(count: int, size: int) -> Iterator[tuple[int, int]]:
    """The bounds of batches of `size`, the last one of what is left."""
    return ((start, min(start + size, count)) for start in range(0, count, size))
