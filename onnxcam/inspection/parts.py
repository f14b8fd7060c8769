"""What an inspection finds: feature maps, scores and inputs, as values."""

from dataclasses import dataclass

from onnxcam.grad.infer import Shape

LAYOUTS = {(3, 1): "NCL", (3, 2): "NLC", (4, 1): "NCHW", (4, 3): "NHWC", (5, 1): "NCDHW", (5, 4): "NDHWC"}


@dataclass(frozen=True)
class Layer:
    """A feature map: the node that makes it (its tensor where names repeat), shape, and axis of the channels."""

    name: str
    tensor: str
    op: str
    shape: Shape
    channel_axis: int

    @property
    def layout(self) -> str:
        """Order of the axes, such as NCHW or NHWC."""
        return LAYOUTS.get((len(self.shape), self.channel_axis), f"channels at axis {self.channel_axis}")

    @property
    def grid(self) -> Shape:
        """The spatial dimensions."""
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, self.channel_axis))


@dataclass(frozen=True)
class Score:
    """A tensor whose elements can be explained: what the model says before its last Softmax or Sigmoid."""

    tensor: str
    output: str
    shape: Shape
    activation: str | None

    @property
    def classes(self) -> int | None:
        """Number of classes, where it is known."""
        size = self.shape[1 if len(self.shape) > 1 else 0]
        return size if isinstance(size, int) else None


@dataclass(frozen=True)
class Input:
    """An input of the model; `layout` only for one that looks like an image."""

    name: str
    shape: Shape
    dtype: str
    layout: str | None

    @property
    def channels(self) -> int | None:
        """Number of colour channels, where it is known."""
        if self.layout is None:
            return None
        size = self.shape[self.layout.index("C")]
        return size if isinstance(size, int) else None

    @property
    def size(self) -> Shape:
        """Height and width (or what space the layout has)."""
        channel = self.layout.index("C") if self.layout else -1
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, channel))
