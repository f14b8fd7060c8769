"""One row for every operator and every way of using it that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, normal, positive, unit

X = (2, 3, 6, 5)  # an image that is not square, so that exchanged axes show


def far(rng, shape):
    """Between the kinks of the saturating activations, on all of their pieces."""
    return normal(rng, shape) * 2.3


ARITHMETIC: list[Case] = [
    *(case(o, (2, 3), (2, 3)) for o in ("Add", "Sub", "Mul")),
    *(case(o, (2, 3, 4), (3, 1)) for o in ("Add", "Sub", "Mul")),
    *(case(o, (4,), (2, 3, 4)) for o in ("Add", "Mul")),
    case("Mul", (2, 1, 4), (3, 1)),
    case("Add", (), (2, 3)),
    case("Div", (2, 3), (2, 3), sample=positive),
    case("Div", (3, 1), (2, 3, 4), sample=positive),
    case("Pow", (2, 3), (3,), sample=positive),
    case("Pow", (2, 3), np.float32(2.0)),
    case("Pow", (2, 3), np.float32(3.0)),
    case("Pow", (2, 3), np.float32(1.0)),
    case("Mod", (2, 3), (2, 3), fmod=1, since=10, wrt=(0,)),
    *(
        case(o, (2, 3))
        for o in ("Neg", "Abs", "Exp", "Erf", "Sin", "Cos", "Sinh", "Cosh", "Asinh", "Identity", "Atan")
        if o not in ("Erf", "Sinh", "Cosh", "Asinh")
    ),
    *(case(o, (2, 3), since=9) for o in ("Erf", "Sinh", "Cosh", "Asinh")),
    *(case(o, (2, 3), sample=positive) for o in ("Log", "Sqrt", "Reciprocal")),
    *(case(o, (2, 3), sample=unit) for o in ("Tan", "Asin", "Acos")),
    case("Atanh", (2, 3), sample=unit, since=9),
    case("Acosh", (2, 3), sample=lambda r, s: positive(r, s) + 1, since=9),
    case("Where", np.array([[True, False, True], [False, False, True]]), (2, 3), (3,), since=9),
    case("Sum", (2, 3), (3,), (2, 1), since=8),
    case("Mean", (2, 3), (3,), (2, 1), since=8),
    case("Max", (2, 3), (3,), (2, 1), since=8),
    case("Min", (2, 3), (3,), since=8),
    case("Min", (2, 3)),
    case("Cast", (2, 3), to=1),
    case("CastLike", (2, 3), np.float32([1]), since=15, until=19),
]

ACTIVATIONS: list[Case] = [
    *(case(o, (2, 7)) for o in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")),
    case("ThresholdedRelu", (2, 7), alpha=0.5, since=10),
    case("LeakyRelu", (2, 7), alpha=0.1),
    case("LeakyRelu", (2, 7), alpha=-0.3),
    case("PRelu", (2, 3, 4), (3, 1)),
    case("PRelu", (2, 3, 4), (1,)),
    *(case(o, (2, 7)) for o in ("Elu", "Selu")),
    case("Elu", (2, 7), alpha=0.4),
    case("Celu", (2, 7), alpha=0.4, since=12),
    case("HardSigmoid", (2, 9), sample=far),
    case("HardSigmoid", (2, 9), sample=far, alpha=1 / 6, beta=0.5),
    case("HardSwish", (2, 9), sample=far, since=14),
    case("Mish", (2, 7), since=18),
    case("Gelu", (2, 7), since=20),
    case("Gelu", (2, 7), approximate="tanh", since=20),
    case("Clip", (2, 7), min=np.float32(-0.5), max=np.float32(1.0), since=11),
    case("Clip", (2, 7), min=np.float32(0.0), max=np.float32(1.0), since=11),
    case("Clip", (2, 7), min=np.float32(-0.5), since=11),
    case("Clip", (2, 7), max=np.float32(0.5), since=11),
    case("Clip", (2, 7), min=-0.5, max=1.0, until=11),
    case("Clip", (2, 7), min=0.0, until=11),
    case("Clip", (2, 7), since=11),
    case("Clip", (2, 7), (), np.float32(1.5), since=11, sample=lambda r, s: normal(r, s) if s else np.float64(0.2)),
    case("Clip", (2, 7), np.float32(-1.5), (), since=11, sample=lambda r, s: normal(r, s) if s else np.float64(0.2)),
    case("Shrink", (2, 7), lambd=0.7, bias=0.2, since=9),
    case("Dropout", (2, 7)),
]


def windows(op: str, *more: object, **fixed: object) -> list[Case]:
    """The windows that convolutions and pools share, on one to three axes."""
    k = {"kernel_shape": [3, 3]} if not more else {}
    rows = [
        {},
        {"strides": [2, 2]},
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 1, 1, 0], "strides": [2, 2]},
        {"pads": [0, 0, 1, 1], "strides": [2, 2]},
        {"pads": [2, 1, 0, 1], "strides": [1, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {
            "auto_pad": "SAME_LOWER",
            "strides": [2, 2],
            "forward": "ort",
        },  # the reference pads max pools at the wrong end
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "VALID", "strides": [2, 1]},
        {"strides": [3, 2], "pads": [1, 1, 1, 1]},
    ]
    return [case(op, X, *more, **k, **fixed, **row) for row in rows]


CONVOLUTIONS: list[Case] = [
    *windows("Conv", (4, 3, 3, 3)),
    case("Conv", X, (4, 3, 3, 3), (4,)),
    case("Conv", X, (4, 3, 1, 1)),
    case("Conv", X, (4, 3, 1, 1), strides=[2, 2]),
    case("Conv", X, (4, 3, 1, 1), strides=[3, 3], pads=[1, 1, 1, 1]),
    case("Conv", X, (4, 3, 2, 2), dilations=[2, 3]),
    case("Conv", X, (4, 3, 2, 2), dilations=[2, 2], pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", (2, 4, 5, 6), (6, 2, 3, 3), group=2),
    case("Conv", (2, 4, 5, 6), (6, 2, 3, 3), group=2, strides=[2, 2], pads=[0, 1, 1, 0]),
    case("Conv", (2, 4, 5, 6), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 5, 6), (8, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 5, 6), (4, 1, 3, 3), group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 5, 6), (4, 4, 3, 3), pads=[3, 3, 3, 3]),
    case("Conv", (2, 3, 9), (4, 3, 3), strides=[2], pads=[1, 1]),
    case("Conv", (2, 3, 9), (4, 3, 3), pads=[1, 0]),
    case("Conv", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), strides=[2, 1, 2], pads=[1, 1, 0, 0, 1, 1]),
    case("Conv", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), pads=[1, 1, 0, 0, 1, 1]),
    case("ConvTranspose", X, (3, 4, 3, 3), wrt=(0,)),
    case("ConvTranspose", X, (3, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], wrt=(0,)),
    case("ConvTranspose", (2, 4, 5, 6), (4, 1, 2, 2), group=4, strides=[2, 2], wrt=(0,)),
]

POOLS: list[Case] = [
    *windows("MaxPool"),
    *windows("AveragePool"),
    *windows("AveragePool", count_include_pad=1),
    *(case(o, X, kernel_shape=[2, 2], strides=[2, 2]) for o in ("MaxPool", "AveragePool", "LpPool")),
    *(case(o, (2, 3, 6, 4), kernel_shape=[2, 2], strides=[2, 2]) for o in ("MaxPool", "AveragePool")),
    *(
        case(o, (2, 3, 7, 6), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, since=10)
        for o in ("MaxPool", "AveragePool")
    ),
    *(
        case(o, (2, 3, 7, 6), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, since=10)
        for o in ("MaxPool", "AveragePool")
    ),
    case(
        "AveragePool",
        (2, 3, 7, 6),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
        since=19,
    ),
    case("MaxPool", (2, 3, 8, 7), kernel_shape=[2, 3], dilations=[2, 2], since=10),
    case("AveragePool", (2, 3, 8, 7), kernel_shape=[2, 3], dilations=[2, 2], since=19),
    *(case(o, (2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 1]) for o in ("MaxPool", "AveragePool")),
    *(case(o, (1, 2, 4, 5, 6), kernel_shape=[2, 3, 2], strides=[2, 1, 2]) for o in ("MaxPool", "AveragePool")),
    case("LpPool", X, kernel_shape=[3, 3], p=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("LpPool", X, kernel_shape=[3, 3], p=1),
    case("GlobalAveragePool", X),
    case("GlobalAveragePool", (2, 3, 7)),
    case("GlobalMaxPool", X, dynamic=(0,)),
    *(case("GlobalLpPool", X, p=p, forward="ort", until=22) for p in (1, 2, 3)),  # the reference has none
]

LINEAR: list[Case] = [
    case("MatMul", (2, 3), (3, 4)),
    case("MatMul", (5, 2, 3), (3, 4)),
    case("MatMul", (2, 3), (5, 3, 4)),
    case("MatMul", (2, 1, 2, 3), (5, 3, 4)),
    case("MatMul", (3,), (3, 4)),
    case("MatMul", (2, 3), (3,)),
    case("MatMul", (3,), (3,)),
    case("MatMul", (5, 2, 3), (3,)),
    case("MatMul", (3,), (5, 3, 4)),
    *(case("Gemm", a, b, (4,), transA=ta, transB=tb, alpha=0.5, beta=2.0) for a, b, ta, tb in
      (((2, 3), (3, 4), 0, 0), ((3, 2), (3, 4), 1, 0), ((2, 3), (4, 3), 0, 1), ((3, 2), (4, 3), 1, 1))),
    case("Gemm", (2, 3), (3, 4), (2, 1)),
    case("Gemm", (2, 3), (3, 4), since=11),
]  # fmt: skip


def statistics(rng, shape):
    return positive(rng, shape) if len(shape) == 1 else normal(rng, shape)


NORMALIZATIONS: list[Case] = [
    case("BatchNormalization", X, (3,), (3,), (3,), (3,), sample=statistics, epsilon=1e-3, since=14),
    case("BatchNormalization", (2, 3), (3,), (3,), (3,), (3,), sample=statistics, since=14),
    # Before opset 14 the reference mixes training and inference.
    case("BatchNormalization", X, (3,), (3,), (3,), (3,), sample=statistics, epsilon=1e-3, until=14, forward="ort"),
    # The reference sums the squares over the wrong neighbours.
    case("LRN", (2, 7, 3, 2), size=3, alpha=0.5, beta=0.75, bias=1.0, forward="ort"),
    case("LRN", (2, 7, 3, 2), size=5, alpha=0.5, beta=0.5, bias=2.0, forward="ort"),
    case("InstanceNormalization", X, (3,), (3,), epsilon=1e-3),
    case("LayerNormalization", (2, 3, 4), (4,), (4,), since=17),
    case("LayerNormalization", (2, 3, 4), (3, 4), (3, 4), axis=1, since=17),
    case("LpNormalization", (2, 3, 4), axis=1, p=2),
    case("LpNormalization", (2, 3, 4), axis=-1, p=1, forward="ort"),  # the reference forgets the absolute value
    *(case(o, (2, 3, 4), axis=a, since=13) for o in ("Softmax", "LogSoftmax") for a in (-1, 1, 0)),
    *(case(o, (2, 3), axis=1, until=13) for o in ("Softmax", "LogSoftmax")),
]

REDUCTIONS: list[Case] = [
    *(case(f"Reduce{o}", (2, 3, 4), axes=[1], keepdims=k, sample=positive) for k in (0, 1)
      for o in ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp")),
    *(case(f"Reduce{o}", (2, 3, 4, 2), axes=[2, -1], keepdims=0, dynamic=(0,))
      for o in ("Sum", "Mean", "Max", "Prod", "L2")),
    *(case(f"Reduce{o}", (2, 3, 4), keepdims=0) for o in ("Sum", "Mean", "Min")),
    case("ReduceProd", (2, 3, 4), keepdims=0, dynamic=()),
]  # fmt: skip

MOVEMENTS: list[Case] = [
    case("Reshape", (2, 3, 4), np.int64([4, 6])),
    case("Reshape", (2, 3, 4), np.int64([0, -1]), dynamic=(0,)),
    case("Flatten", X, axis=1),
    case("Flatten", X, axis=0),
    case("Transpose", (2, 3, 4), perm=[1, 2, 0]),
    case("Transpose", (2, 3, 4)),
    case("Squeeze", (2, 1, 3, 1), axes=[1, 3], dynamic=(0,)),
    case("Squeeze", (2, 1, 3), dynamic=()),
    case("Unsqueeze", (2, 3), axes=[0, 2]),
    case("Expand", (3, 1), np.int64([2, 3, 4]), since=8, dynamic=()),
    case("Tile", (2, 3), np.int64([2, 3])),
    case("Concat", (2, 3, 2), (2, 1, 2), (2, 4, 2), axis=1),
    case("Concat", (2, 3), (4, 3), axis=0),
    case("Concat", (2, 3), (2, 3), axis=-1, since=11),
    case("Split", (2, 6), axis=1, split=[1, 2, 3], outputs=3, dynamic=(0,)),
    case("Split", (2, 6), axis=1, outputs=3, until=18, dynamic=(0,)),
    case("Split", (2, 7), axis=1, num_outputs=3, outputs=3, since=18, dynamic=(0,)),
    case("Slice", (5, 6), starts=[1, 2], ends=[4, 5]),
    case("Slice", (5, 6), starts=[1], ends=[2**31 - 1], axes=[0]),
    case("Slice", (5, 6), starts=[-3], ends=[-1], axes=[1]),
    case("Slice", (5, 6), starts=[1, 5], ends=[5, -7], axes=[0, 1], steps=[2, -2], since=10, dynamic=()),
    case("Slice", (5, 6), starts=[0], ends=[6], axes=[-1], steps=[3], since=10),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 3, 0]),
    case("Pad", X, pads=[0, 0, -1, 2, 0, 0, 1, -1], forward="ort"),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="reflect", dynamic=(0,)),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="edge", dynamic=(0,)),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="wrap", since=19, dynamic=(0,)),
    case(
        "Pad", (2, 3), np.int64([1, 0, 0, 2]), (), since=11, sample=lambda r, s: normal(r, s) if s else np.float64(0.7)
    ),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="CRD", since=11),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="DCR", since=11),
    case("SpaceToDepth", (2, 3, 4, 6), blocksize=2),
    case("Gather", (5, 6), np.int64([3, 0, 4]), axis=0, dynamic=(1,)),
    case("Gather", (5, 6), np.int64([3, 0, 3]), axis=1, dynamic=(0,)),
    case("Gather", (2, 5, 6), np.int64(-2), axis=1, dynamic=(0,)),
    case("Gather", (2, 5, 3), np.int64([[1, 1], [0, 4]]), axis=1, dynamic=(0,)),
]

ROI = np.float32([])
SMALL, LARGE, ROW = (1, 2, 4, 5), (1, 2, 6, 8), {"dynamic": (0,)}
DOUBLE = np.float32([1, 1, 2, 3])
RESIZES: list[Case] = [
    *(
        case("Resize", SMALL, ROI, np.float32([1, 1, f, f]), since=11, mode=m, coordinate_transformation_mode=c, **ROW)
        for f in (2.0, 0.6, 2.6)
        for m in ("nearest", "linear", "cubic")
        for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    *(
        case("Resize", SMALL, ROI, DOUBLE, since=11, mode="nearest", nearest_mode=n, coordinate_transformation_mode=c)
        for c, n in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    ),
    case("Resize", SMALL, ROI, ROI, np.int64([1, 2, 7, 3]), since=11, until=13, mode="linear", dynamic=()),
    case("Resize", SMALL, None, None, np.int64([1, 2, 7, 3]), since=13, mode="linear", dynamic=()),
    # The reference implementation of antialias differs from the runtime's at the borders.
    case(
        "Resize", LARGE, ROI, np.float32([1, 1, 0.5, 0.5]), since=18, mode="linear", antialias=1, forward="ort", **ROW
    ),
    case(
        "Resize",
        LARGE,
        ROI,
        np.float32([1, 1, 0.6, 0.7]),
        since=18,
        mode="cubic",
        antialias=1,
        exclude_outside=1,
        **ROW,
    ),
    # The reference has no Resize-10 and no linear Upsample.
    case("Resize", SMALL, DOUBLE, since=10, until=11, mode="nearest", forward="ort"),
    case("Resize", SMALL, DOUBLE, since=10, until=11, mode="linear", forward="ort", **ROW),
    case("Upsample", SMALL, scales=DOUBLE, since=9, until=10, mode="nearest"),
    case("Upsample", SMALL, scales=DOUBLE, since=9, until=10, mode="linear", forward="ort", **ROW),
]

CASES: list[Case] = [
    *ARITHMETIC, *ACTIVATIONS, *CONVOLUTIONS, *POOLS, *LINEAR, *NORMALIZATIONS, *REDUCTIONS, *MOVEMENTS, *RESIZES,
]  # fmt: skip
