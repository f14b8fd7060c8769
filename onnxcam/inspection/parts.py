"""What an inspection finds: feature maps, scores and inputs, as values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnxcam.grad.infer import Shape

LAYOUTS = {(3, 1): "NCL", (3, 2): "NLC", (4, 1): "NCHW", (4, 3): "NHWC", (5, 1): "NCDHW", (5, 4): "NDHWC"}
BARE = {(rank - 1, channel - 1): layout[1:] for (rank, channel), layout in LAYOUTS.items()}  # without samples
GREY = "NHW"


@dataclass(frozen=True)
class Fold:
    """How a tensor whose places do not have an axis each is folded into (N, K, *space).

    Along `axis`, the tokens before and after the places are cut off; the rest, reshaped to `split` (-1 where only a run
    tells), has its axes put in the order `order`: samples, channels, places, the innermost of each picture axis last.
    `made` is the operator that put the other tokens there, `layout` "tokens" or "windows". It holds for pictures of the
    size `at`, where the model leaves their size open.
    """

    axis: int
    prefix: int
    suffix: int
    split: tuple[int, ...]
    order: tuple[int, ...]
    made: str = ""
    layout: Literal["tokens", "windows", ""] = ""
    at: Shape = ()


@dataclass(frozen=True)
class Layer:
    """A feature map: the node that makes it (its tensor where names repeat), shape, and axis of the channels.

    Where places do not have an axis each, `tokens` is the grid that they form, `prefix` counts the tokens before it
    (class, distillation, registers), and `fold` says how to get there. `why` gives the reasons for its rank, `note`
    what was assumed. `heard` is false where only other tokens reach the score.
    """

    name: str
    tensor: str
    op: str
    shape: Shape
    channel_axis: int
    tokens: Shape | None = None
    prefix: int = 0
    fold: Fold | None = None
    why: str = ""
    note: str = ""
    heard: bool = True

    @property
    def layout(self) -> str:
        """Order of the axes, such as NCHW or NHWC; "tokens" for a sequence, "windows" for several."""
        if self.fold is not None and self.fold.layout:
            return self.fold.layout
        known = BARE if self.fold is not None and len(self.fold.split) > len(self.shape) else LAYOUTS
        return known.get((len(self.shape), self.channel_axis), f"channels at axis {self.channel_axis}")

    @property
    def grid(self) -> Shape:
        """The spatial dimensions."""
        if self.tokens is not None:
            return self.tokens
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, self.channel_axis))


Layout = Literal["rows", "columns", "list", "apart", "classes first", "few", "certain"]


@dataclass(frozen=True)
class Boxes:
    """How a detector's outputs are read.

    layout: what the score tensor holds. "rows": (N, boxes, 4 + objectness + classes), as YOLOv5; "columns": (N, 4 +
    classes, boxes), as YOLOv8; "list": (N, boxes, 6), corners, score and class of each; "apart": (N, boxes, classes),
    "classes first": (N, classes, boxes), and "few": (boxes,) or (N, boxes), where the coordinates are a tensor of their
    own; "certain": (N, boxes, classes) in 0..1 of all levels together, without coordinates. form: what the four
    coordinates are; None where nothing tells. cells: height, width and pixels of a step of each grid that coordinates
    are offsets in, in the order of the boxes, as in YOLOX: they are not decoded yet. levels: the feature maps, one for
    each size of boxes, that the last convolutions read. yolo: whether outputs for each size of boxes say what YOLO's
    do.
    """

    layout: Layout
    corners: str
    form: Literal["xyxy", "yxyx", "cxcywh"] | None = "xyxy"
    unit: Literal["pixels", "fractions"] = "pixels"
    classes: int | None = None
    labels: str = ""
    background: int | None = None
    levels: tuple[str, ...] = ()
    cells: tuple[tuple[int, int, int], ...] = ()
    yolo: bool = False

    @property
    def raw(self) -> bool:
        """Whether the coordinates are no places of the picture, and nothing tells how to make them."""
        return self.layout in ("rows", "certain") and self.form is None


@dataclass(frozen=True)
class Score:
    """A tensor whose elements can be explained: what the model says before its last Softmax or Sigmoid.

    kind: "classes", one row a sample; "boxes" of a detector, read as `boxes` says; "regions", classes at every place;
    "sequence", classes at every step; "embedding", a vector without classes. axis: that of the classes. samples: that
    of the samples, 1 where the steps of a sequence come first.
    """

    tensor: str
    output: str
    shape: Shape
    activation: str | None
    kind: Literal["classes", "boxes", "regions", "sequence", "embedding"] = "classes"
    axis: int = 1
    boxes: Boxes | None = None
    samples: int = 0

    @property
    def classes(self) -> int | None:
        """Number of classes, where it is known."""
        if self.boxes is not None:
            return self.boxes.classes
        size = self.shape[self.axis if len(self.shape) > 1 else 0] if self.shape else None
        return size if isinstance(size, int) else None

    @property
    def where(self) -> str:
        """Where in the model it is, for a person; "" where the model returns it as it is."""
        if self.boxes is not None and self.boxes.layout == "certain":
            return "joined from the outputs of all sizes of boxes"
        return f"before the {self.activation}" if self.activation else ""

    @property
    def named(self) -> int | None:
        """How many of the classes have names: the last one of a detector that means no object has none."""
        last = self.boxes is not None and self.boxes.background == (self.classes or 0) - 1
        return self.classes - 1 if last and self.classes else self.classes


@dataclass(frozen=True)
class Input:
    """An input of the model; `layout` only for one that looks like an image.

    It lacks N where the model takes one image at a time, and is NHW where a grey one has no axis for its colour.
    """

    name: str
    shape: Shape
    dtype: str
    layout: str | None

    @property
    def channel_axis(self) -> int:
        """The axis of the colours; the second where there is none, which is where `batched` puts it."""
        return self.layout.index("C") if self.layout and not self.grey else 1

    @property
    def channels(self) -> int | None:
        """Number of colour channels, where it is known."""
        if self.layout is None:
            return None
        if self.grey:
            return 1
        size = self.shape[self.channel_axis]
        return size if isinstance(size, int) else None

    @property
    def space(self) -> tuple[int, ...]:
        """The axes that are neither samples nor colours."""
        letters = self.layout or "N"
        return tuple(i for i in range(len(self.shape)) if letters[i : i + 1] not in ("N", "C"))

    @property
    def size(self) -> Shape:
        """Height and width (or what space the layout has)."""
        return tuple(self.shape[i] for i in self.space)

    def of_size(self, size: Sequence[int]) -> Shape:
        """The shape with `size` for what the model leaves open of its height and width."""
        sides = dict(zip(self.space, size, strict=True))
        return tuple(sides.get(a, d) if isinstance(d, str) else d for a, d in enumerate(self.shape))

    @property
    def bare(self) -> bool:
        """Whether it is an image without an axis for samples, such as C×H×W."""
        return self.layout is not None and "N" not in self.layout

    @property
    def grey(self) -> bool:
        """Whether it is images without an axis for colours."""
        return self.layout == GREY

    @property
    def batched(self) -> "Input":
        """The same with samples first, a bare image as a batch of one, and an axis for the colour of a grey one."""
        if self.grey:
            return replace(self, shape=(self.shape[0], 1, *self.shape[1:]), layout="NCHW")
        return replace(self, shape=(1, *self.shape), layout=f"N{self.layout}") if self.bare else self
