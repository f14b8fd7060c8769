"""How photographs become the model's input, as found in the file, beside it, in the graph, or guessed."""

from collections.abc import Container, Mapping, Sequence

from onnxcam.grad.forward import Forward
from onnxcam.inspection.entry import entry
from onnxcam.inspection.parts import Input, Score
from onnxcam.model import Source
from onnxcam.preprocessing import Found, Slot, find


def slot(picture: Input, score: Score | None = None) -> Slot:
    """What preprocessing has to know of an image input, and of what the model says of it."""
    height, width = picture.size
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    dense = score is not None and score.kind in ("boxes", "regions", "sequence")
    return Slot(size, picture.layout or "NCHW", picture.dtype, picture.channels, dense)


def photographs(inputs: Sequence[Input], seen: Container[str] = ()) -> Input | None:
    """The input that takes photographs, of two dimensions with channels: one of those `seen`, else the first."""
    two = [i for i in inputs if i.layout in ("NCHW", "NHWC") and any(d != 1 for d in i.size)]
    return next((i for i in two if i.name in seen), next(iter(two), None))


def prepared(
    source: Source, forward: Forward, picture: Input | None, score: Score | None, said: Mapping[str, str]
) -> Found | None:
    """The preprocessing that is found for `picture`, or guessed; None where no input takes photographs."""
    if picture is None:
        return None
    return find(slot(picture, score), said, source.path, entry(forward, picture))
