"""What a run says, as the rows of an explanation: one for each class of each sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.methods.array import softmax
from onnxcam.target import Floats, Ints

Array = npt.NDArray[Any]


def beside(columns: Sequence[Floats]) -> Floats:
    """(N, …) for each class to (N · classes, …), the classes of a sample beside each other."""
    stacked = np.stack(columns, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def column(outputs: Mapping[str, Array], k: int) -> dict[str, Array]:
    """What a run returned, with the gradients of class `k` alone."""
    return {name: v[:, k] if name.startswith("cam/gradient/") else v for name, v in outputs.items()}


def warnings(
    raw: Mapping[str, Floats], classes: Ints, scores: Floats, samples: Ints, labels: list[str] | None
) -> list[str]:
    """Say where a map is empty, or not a map at all: a blank picture has a reason.

    Where several layers are fused one may be silent, as the sizes of a detector's boxes that are not the chosen one's.
    """
    lines = []
    loud = np.any([m.reshape(len(m), -1).max(axis=1) > 0 for m in raw.values()], axis=0)
    for row, cls in enumerate(classes.tolist()):
        said = []
        what = "the target" if cls < 0 else labels[cls] if labels and cls < len(labels) else f"class {cls}"
        for name, maps in raw.items():
            if not np.isfinite(maps[row]).all():
                said.append(f"'{name}' has values that are not finite; they are shown as 0")
            elif maps[row].max() <= 0 and not loud[row]:
                said.append(f"nothing in '{name}' speaks for {what}: its map is empty. Look at .raw")
        if not np.isfinite(scores[row]) and not said:
            said.append(f"the score of {what} is {scores[row]}: the map means nothing")
        lines += [f"sample {samples[row]}: {text}" for text in said]
    return lines


def probabilities(scores: Floats, activation: str | None) -> Floats | None:
    """Softmax or sigmoid of the scores: as the model ends, softmax where it ends in two or more plain scores."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -80, 80))))
    if scores.shape[1] < 2:
        return None
    if activation is None and scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    return np.asarray(softmax(scores))
