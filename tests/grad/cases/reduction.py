"""Reduction: one row for every way of using an operator that has its own path through a rule."""

from tests.grad.harness import Case, case, fed, normal, positive


def with_zeros(rng, shape):
    """None, one or two zeros along the middle axis."""
    values = normal(rng, shape)
    values[0, 1, 0] = values[1, 0, 1] = values[1, 2, 1] = 0
    return values


OPERATORS = [
    f"Reduce{o}" for o in ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp")
]
AXES_SINCE = {"ReduceSum": 13}  # from when on the axes are an input: 18 for the others

CASES: list[Case] = [
    *(case(f"Reduce{o}", (2, 3, 4), axes=[1], keepdims=k, sample=positive) for k in (0, 1)
      for o in ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp")),
    *(case(f"Reduce{o}", (2, 3, 4, 2), axes=[2, -1], keepdims=0, dynamic=(0,))
      for o in ("Sum", "Mean", "Max", "Prod", "L2")),
    *(case(f"Reduce{o}", (2, 3, 4), keepdims=0) for o in ("Sum", "Mean", "Min")),
    case("ReduceProd", (2, 3, 4), keepdims=0),
    case("ReduceProd", (2, 3, 2), axes=[1], sample=with_zeros),
    case("ReduceProd", (2, 3, 2), axes=[1, 0], keepdims=0, sample=with_zeros),
    *(case(o, (2, 3, 4), fed(a), keepdims=k, since=AXES_SINCE.get(o, 18), sample=positive)
      for o in OPERATORS for k in (0, 1) for a in ([1], [-1, 0])),
    *(case(o, (2, 3), fed([]), keepdims=0, since=AXES_SINCE.get(o, 18), sample=positive) for o in OPERATORS),
    *(case(o, (2, 3), fed([]), noop_with_empty_axes=1, since=AXES_SINCE.get(o, 18), sample=positive,
           forward="ort") for o in OPERATORS),
    case("ReduceProd", (2, 3, 2), fed([1]), since=18, sample=with_zeros),
]  # fmt: skip
