"""Operators that draw random numbers, where they draw none: what they drew is tried in test_random.py."""

import numpy as np

from tests.grad.harness import Case, case

CASES: list[Case] = [
    case("Dropout", (2, 7)),
    case("Dropout", (2, 7), np.float64(0.3), np.array(False), since=12),
    case("Dropout", (2, 7), np.float64(0), np.array(True), since=12),
]
