"""Arithmetic: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, positive, unit

CASES: list[Case] = [
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
    *(case(o, (2, 3), (2, 3), until=8) for o in ("Sum", "Mean", "Max")),  # they broadcast from opset 8 on
    case("Min", (2, 3), (3,), since=8),
    case("Min", (2, 3)),
    case("Cast", (2, 3), to=1),
    case("CastLike", (2, 3), np.float32([1]), since=15, forward="ort"),
]
