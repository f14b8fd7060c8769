"""The sliding window that convolutions and pools share: ONNX's attributes with their defaults filled in."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and pads of each spatial axis, as plain integers."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
    ) -> "Window":
        """Fill ONNX's defaults: strides and dilations 1, pads 0; `pads` is [begin…, end…] as in the attribute."""
        n = len(kernel)
        pads = tuple(pads or (0,) * 2 * n)
        return cls(tuple(kernel), tuple(strides or (1,) * n), tuple(dilations or (1,) * n), pads[:n], pads[n:])

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """Extent of the dilated kernel on each axis: d(k − 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def volume(self) -> int:
        """Number of taps."""
        n = 1
        for k in self.kernel:
            n *= k
        return n

    def phases(self, axis: int) -> dict[int, list[tuple[int, int]]]:
        """Which taps reach the places of each phase, those a stride apart: pairs of a tap and of how far it is moved.

        Tap k of window i is at place stride·(i + moved) + phase of the unpadded axis.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for tap in range(self.kernel[axis]):
            moved, phase = divmod(tap * self.dilations[axis] - self.begin[axis], self.strides[axis])
            found.setdefault(phase, []).append((tap, moved))
        return found

    @property
    def dense(self) -> bool:
        """Whether neighbouring windows are one element apart on every axis."""
        return all(s == 1 for s in self.strides)

    @property
    def tiles(self) -> bool:
        """Whether the windows lie side by side: stride equal to the kernel, no gaps, no padding."""
        return self.kernel == self.strides == self.reach and not any(self.begin + self.end)

    def beyond(self, axis: int, size: int | str, windows: int) -> bool:
        """Whether the last window starts in the end padding: runtimes drop it, onnx's inference not at every opset."""
        return isinstance(size, int) and (windows - 1) * self.strides[axis] >= size + self.begin[axis]

    def symbol(self, axis: int, size: int | str, same: bool, ceil: bool) -> int | str:
        """Number of windows along an axis of dynamic `size`; equal expressions give equal symbols."""
        stride = self.strides[axis]
        if same:
            return size if stride == 1 else f"ceil({size}/{stride})"
        slack = self.begin[axis] + self.end[axis] - self.reach[axis]
        if stride == 1:
            return size if slack == -1 else f"({size}{slack + 1:+d})"
        return f"({'ceil' if ceil else 'floor'}(({size}{slack:+d})/{stride})+1)"
