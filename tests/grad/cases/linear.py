"""Linear: one row for every way of using an operator that has its own path through a rule."""

from tests.grad.harness import Case, case

CASES: list[Case] = [
    case("MatMul", (2, 3), (3, 4)),
    case("MatMul", (5, 2, 3), (3, 4)),
    case("MatMul", (2, 3), (5, 3, 4)),
    case("MatMul", (2, 1, 2, 3), (5, 3, 4)),
    case("MatMul", (2, 3), (3, 3)),
    case("MatMul", (5, 2, 3), (3, 3)),
    case("MatMul", (3,), (3, 4)),
    case("MatMul", (2, 3), (3,)),
    case("MatMul", (3,), (3,)),
    case("MatMul", (5, 2, 3), (3,)),
    case("MatMul", (3,), (5, 3, 4)),
    *(case("Gemm", a, b, (4,), transA=ta, transB=tb, alpha=0.5, beta=2.0) for a, b, ta, tb in
      (((2, 3), (3, 4), 0, 0), ((3, 2), (3, 4), 1, 0), ((2, 3), (4, 3), 0, 1), ((3, 2), (4, 3), 1, 1))),
    case("Gemm", (2, 3), (3, 4), (2, 1)),
    case("Gemm", (2, 3), (3, 4), since=11),
    *(case("Gemm", (2, 3), (3, 3), (3,), transB=tb, alpha=0.5) for tb in (0, 1)),
]  # fmt: skip
