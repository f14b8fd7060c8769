"""ConvTranspose and Col2Im: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case

X = (2, 3, 4, 5)  # an image that is not square, so that exchanged axes show
W = (3, 4, 3, 2)
ORT = {"forward": "ort"}  # the reference is wrong for SAME pads, and refuses dilations, groups and three axes

TRANSPOSED: list[Case] = [
    case("ConvTranspose", X, W),
    case("ConvTranspose", X, W, (4,)),
    case("ConvTranspose", X, W, (4,), kernel_shape=[3, 2], strides=[2, 3]),
    case("ConvTranspose", X, W, strides=[2, 2], pads=[1, 1, 1, 0], output_padding=[1, 0]),
    case("ConvTranspose", X, W, strides=[1, 2], dilations=[2, 3], pads=[0, 1, 2, 1], output_padding=[0, 1], **ORT),
    case("ConvTranspose", X, W, strides=[2, 2], auto_pad="VALID"),
    *(
        case("ConvTranspose", X, W, strides=s, auto_pad=a, **ORT)
        for a in ("SAME_UPPER", "SAME_LOWER")
        for s in ([1, 1], [2, 1], [3, 3])
    ),
    *(
        case("ConvTranspose", X, W, strides=[2, 2], output_shape=o, **ORT, **a)
        for o in ([8, 10], [7, 9], [10, 11])
        for a in ({}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"})
    ),
    case("ConvTranspose", X, W, strides=[2, 2], output_shape=[8, 10], output_padding=[1, 1], **ORT),
    case("ConvTranspose", (2, 4, 5, 6), (4, 1, 2, 2), group=4, strides=[2, 2]),
    case("ConvTranspose", (2, 4, 3, 4), (4, 3, 2, 3), (6,), group=2, strides=[2, 1], pads=[1, 0, 0, 1], **ORT),
    case("ConvTranspose", (2, 3, 6), (3, 2, 3), (2,), strides=[2], pads=[1, 0], output_padding=[1]),
    case("ConvTranspose", (1, 2, 3, 4, 3), (2, 3, 2, 3, 2), strides=[2, 1, 2], pads=[1, 1, 0, 0, 1, 1]),
    case("ConvTranspose", (1, 2, 3, 4, 3), (2, 3, 2, 3, 2), (3,), strides=[2, 1, 2], output_shape=[5, 6, 7], **ORT),
]

SHAPES = {"image_shape": np.int64([5, 6]), "block_shape": np.int64([2, 3])}
COLUMNS: list[Case] = [
    case("Col2Im", (2, 18, 16), since=18, **SHAPES),
    case("Col2Im", (2, 12, 6), since=18, strides=[2, 2], pads=[0, 1, 1, 0], dilations=[2, 1], **SHAPES),
    case("Col2Im", (1, 16, 12), since=18, image_shape=np.int64([3, 4, 3]), block_shape=np.int64([2, 2, 2])),
]

CASES = TRANSPOSED + COLUMNS
