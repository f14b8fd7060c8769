"""Normalization: one row for every way of using an operator that has its own path through a rule."""

from tests.grad.harness import Case, case, normal, positive

X = (2, 3, 6, 5)  # an image that is not square, so that exchanged axes show

TRAINING = {"training_mode": 1, "momentum": 0.7, "outputs": 3}


def statistics(rng, shape):
    return positive(rng, shape) if len(shape) == 1 else normal(rng, shape)


CASES: list[Case] = [
    case("BatchNormalization", X, (3,), (3,), (3,), (3,), sample=statistics, epsilon=1e-3, since=14),
    case("BatchNormalization", (2, 3), (3,), (3,), (3,), (3,), sample=statistics, since=14),
    *(
        case("BatchNormalization", x, (3,), (3,), (3,), (3,), sample=statistics, epsilon=1e-2, since=14, **TRAINING)
        for x in (X, (5, 3))
    ),
    # Before opset 14 the reference mixes training and inference.
    case("BatchNormalization", X, (3,), (3,), (3,), (3,), sample=statistics, epsilon=1e-3, until=14, forward="ort"),
    # The reference sums the squares over the wrong neighbours.
    case("LRN", (2, 7, 3, 2), size=3, alpha=0.5, beta=0.75, bias=1.0, forward="ort"),
    case("LRN", (2, 7, 3, 2), size=5, alpha=0.5, beta=0.5, bias=2.0, forward="ort"),
    case("InstanceNormalization", X, (3,), (3,), epsilon=1e-3),
    case("LayerNormalization", (2, 3, 4), (4,), (4,), since=17),
    case("LayerNormalization", (2, 3, 4), (3, 4), (3, 4), axis=1, since=17),
    case("MeanVarianceNormalization", X, since=9, forward="ort"),  # the reference's body is of float32 only
    case("MeanVarianceNormalization", (2, 3, 4), axes=[2], since=9, forward="ort"),
    case("LpNormalization", (2, 3, 4), axis=1, p=2),
    case("LpNormalization", (2, 3, 4), axis=-1, p=1, forward="ort"),  # the reference forgets the absolute value
    *(case(o, (2, 3, 4), axis=a, since=13) for o in ("Softmax", "LogSoftmax") for a in (-1, 1, 0)),
    *(case(o, (2, 3), axis=1, until=13) for o in ("Softmax", "LogSoftmax")),
]
