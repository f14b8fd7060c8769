"""Reduction: one row for every way of using an operator that has its own path through a rule."""

from tests.grad.harness import Case, case, positive

CASES: list[Case] = [
    *(case(f"Reduce{o}", (2, 3, 4), axes=[1], keepdims=k, sample=positive) for k in (0, 1)
      for o in ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp")),
    *(case(f"Reduce{o}", (2, 3, 4, 2), axes=[2, -1], keepdims=0, dynamic=(0,))
      for o in ("Sum", "Mean", "Max", "Prod", "L2")),
    *(case(f"Reduce{o}", (2, 3, 4), keepdims=0) for o in ("Sum", "Mean", "Min")),
    case("ReduceProd", (2, 3, 4), keepdims=0, dynamic=()),
]  # fmt: skip
