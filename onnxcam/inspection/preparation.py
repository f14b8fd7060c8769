"""How photographs become the model's input, as found in the file, beside it, in the graph, or guessed."""

from collections.abc import Container, Mapping, Sequence

from onnxcam.grad.forward import Forward
from onnxcam.inspection.entry import entry
from onnxcam.inspection.parts import Input, Score
from onnxcam.model import Source
from onnxcam.preprocessing import CHOICES, Found, Slot, find


def slot(picture: Input, score: Score | None = None) -> Slot:
    """What preprocessing has to know of an image input, and of what the model says of it."""
    height, width = (d if isinstance(d, int) else None for d in picture.size)
    size = None if height is None or width is None else (height, width)
    features = score is not None and score.kind == "regions" and len(score.shape) == 3  # tokens, without a head
    dense = score is not None and score.kind in ("boxes", "regions", "sequence") and not features
    layout = picture.layout or "NCHW"
    return Slot(size, layout, picture.dtype, picture.channels, dense, (height, width), _habit(score))


def _habit(score: Score | None) -> str:
    """The preset for what a model's answer looks like: boxes as YOLO has them, or YOLOX, undecoded, or a text."""
    boxes = None if score is None else score.boxes
    if boxes is not None and (boxes.yolo or boxes.layout in ("rows", "columns")):
        return "yolox" if boxes.cells or (boxes.raw and not boxes.yolo) else "yolo"
    return "tf" if score is not None and score.kind == "sequence" else ""


def photographs(inputs: Sequence[Input], seen: Container[str] = ()) -> Input | None:
    """The input that takes photographs, in grey or three colours: one of those `seen`, else the first."""
    able = [i for i in inputs if _takes_photos(i)]
    return next((i for i in able if i.name in seen), next(iter(able), None))


def _takes_photos(given: Input) -> bool:
    return (
        given.batched.layout in ("NCHW", "NHWC")
        and given.channels in (None, 1, 3)
        and any(d != 1 for d in given.size)
        and given.dtype in CHOICES["dtype"]
    )


def prepared(
    source: Source, forward: Forward, picture: Input | None, score: Score | None, said: Mapping[str, str]
) -> Found | None:
    """The preprocessing that is found for `picture`, or guessed; None where no input takes photographs."""
    if picture is None:
        return None
    return find(slot(picture, score), said, source.path, entry(forward, picture))
