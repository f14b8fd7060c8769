"""Window: one row for every way of using an operator that has its own path through a rule."""

from tests.grad.harness import Case, case

X = (2, 3, 6, 5)  # an image that is not square, so that exchanged axes show


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
    case("Conv", (2, 4, 5, 6), (4, 1, 3, 3), group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 8, 9), (4, 1, 2, 3), group=4, strides=[3, 2], pads=[0, 2, 1, 0]),
    case("Conv", (2, 4, 8, 9), (4, 1, 2, 3), group=4, strides=[1, 2], dilations=[2, 1], pads=[2, 0, 0, 3]),
    case("Conv", (2, 4, 8, 9), (4, 1, 1, 1), group=4, strides=[3, 3], pads=[1, 1, 0, 2]),
    case("Conv", (2, 4, 5, 6), (8, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 5, 6), (4, 1, 3, 3), group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 5, 6), (4, 4, 3, 3), pads=[3, 3, 3, 3]),
    *(
        case("Conv", (1, 16, 7, 6), (17, 16, *kernel), strides=strides, pads=pads)
        for kernel, strides, pads in (
            ((3, 3), [2, 2], [1, 1, 1, 1]),
            ((3, 3), [2, 2], [0, 2, 3, 1]),
            ((5, 4), [2, 1], [1, 0, 2, 3]),
            ((3, 1), [2, 2], [0, 1, 1, 0]),
            ((2, 3), [1, 4], [0, 0, 0, 0]),
            ((3, 2), [2, 2], [4, 4, 4, 4]),
        )
    ),
    case("Conv", (2, 3, 9), (4, 3, 3), strides=[2], pads=[1, 1]),
    case("Conv", (2, 3, 9), (4, 3, 3), pads=[1, 0]),
    case("Conv", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), strides=[2, 1, 2], pads=[1, 1, 0, 0, 1, 1]),
    case("Conv", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), pads=[1, 1, 0, 0, 1, 1]),
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
    case(
        "AveragePool",
        (2, 3, 7, 6),
        kernel_shape=[1280, 1280],
        strides=[1280, 1280],
        ceil_mode=1,
        since=10,
        forward="ort",
    ),
    case("AveragePool", (1, 2, 70, 131), kernel_shape=[66, 65], strides=[66, 65], ceil_mode=1, since=10, forward="ort"),
    case("AveragePool", (1, 2, 70, 131), kernel_shape=[66, 65], strides=[66, 65]),
    case("MaxPool", (2, 3, 8, 7), kernel_shape=[2, 3], dilations=[2, 2], since=10),
    case("MaxPool", (2, 3, 9, 8), kernel_shape=[2, 2], strides=[4, 4], dilations=[2, 2], since=10),
    case("MaxPool", (2, 3, 7, 6), kernel_shape=[1, 1], strides=[2, 3]),
    case("MaxPool", (2, 3, 2, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", (2, 3, 6, 7), kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
    case("AveragePool", (2, 3, 8, 7), kernel_shape=[2, 3], dilations=[2, 2], since=19),
    *(case(o, (2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 1]) for o in ("MaxPool", "AveragePool")),
    *(case(o, (1, 2, 4, 5, 6), kernel_shape=[2, 3, 2], strides=[2, 1, 2]) for o in ("MaxPool", "AveragePool")),
    case("LpPool", X, kernel_shape=[3, 3], p=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("LpPool", X, kernel_shape=[3, 3], p=1),
    # A window that would start in the end padding is dropped, whatever onnx's inference says of it.
    *(
        case(o, X, kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1, since=11, forward="ort")
        for o in ("MaxPool", "AveragePool")
    ),
    *(
        case(o, (2, 3, 9), kernel_shape=[4], strides=[2], auto_pad=a, forward="ort")
        for o in ("MaxPool", "AveragePool", "LpPool")
        for a in ("SAME_UPPER", "SAME_LOWER")
    ),
    *(
        case(o, (1, 2, 4, 5, 6), kernel_shape=[3, 2, 2], strides=[2, 3, 2], auto_pad="SAME_LOWER", forward="ort")
        for o in ("MaxPool", "AveragePool")
    ),
    *(
        case(o, X, kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_UPPER", ceil_mode=1, since=10, forward="ort")
        for o in ("MaxPool", "AveragePool")
    ),
    case("LpPool", X, kernel_shape=[2, 3], strides=[2, 2], pads=[1, 1, 0, 1], ceil_mode=1, since=18, forward="ort"),
    case("LpPool", X, kernel_shape=[2, 2], strides=[2, 2], dilations=[2, 2], since=18, forward="ort"),
    case("GlobalAveragePool", X),
    case("GlobalAveragePool", (2, 3, 7)),
    case("GlobalMaxPool", X),
    *(case("GlobalLpPool", X, p=p, forward="ort", until=22) for p in (1, 2, 3)),  # the reference has none
]

CASES = CONVOLUTIONS + POOLS
