"""Fourier transforms: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed

REAL, COMPLEX = (2, 6, 3, 1), (2, 6, 3, 2)
ODD = (2, 5, 3, 2)
BEFORE, AFTER = {"since": 17, "until": 20}, {"since": 20}
LENGTHS = (np.int64(8), np.int64(5))  # longer than the signal, and shorter
SIGNAL, WINDOW = (2, 19, 1), (6,)

TRANSFORMS: list[Case] = [
    *(case("DFT", x, axis=1, inverse=i, **BEFORE) for x in (REAL, COMPLEX) for i in (0, 1)),
    *(case("DFT", COMPLEX, n, axis=1, inverse=i, **BEFORE) for n in LENGTHS for i in (0, 1)),
    *(case("DFT", REAL, n, axis=a, onesided=1, **BEFORE) for n in (None, *LENGTHS) for a in (1, -2)),
    *(case("DFT", x, None, np.int64(1), inverse=i, **AFTER) for x in (REAL, COMPLEX) for i in (0, 1)),
    *(case("DFT", REAL, n, np.int64(-3), onesided=1, **AFTER) for n in (None, *LENGTHS)),
    *(case("DFT", x, None, np.int64(1), onesided=1, inverse=1, **AFTER) for x in (COMPLEX, ODD)),
    case("DFT", COMPLEX, np.int64(11), np.int64(1), onesided=1, inverse=1, **AFTER),
    case("DFT", COMPLEX, **AFTER),
    *(case("DFT", COMPLEX, fed(n), fed(a), inverse=i, **AFTER) for n in LENGTHS for a in (1, -2) for i in (0, 1)),
    *(case("DFT", REAL, n, fed(1), onesided=1, **AFTER) for n in (None, fed(8), fed(5))),
    case("DFT", COMPLEX, None, fed(1), onesided=1, inverse=1, **AFTER),
]

STEP = np.int64(3)
FRAMES: list[Case] = [
    *(case("STFT", SIGNAL, STEP, WINDOW, onesided=o, since=17) for o in (0, 1)),
    case("STFT", (2, 19, 2), STEP, WINDOW, onesided=0, since=17),
    case("STFT", SIGNAL, STEP, WINDOW, np.int64(6), onesided=1, since=17),
    case("STFT", SIGNAL, STEP, None, np.int64(7), onesided=1, since=17),
    *(case("STFT", SIGNAL, fed(3), WINDOW, n, onesided=1, since=17) for n in (None, fed(6))),
    case("STFT", SIGNAL, fed(8), None, fed(7), onesided=1, since=17),
    case("STFT", (1, 150, 1), STEP, WINDOW, onesided=1, since=17),
]

CASES = TRANSFORMS + FRAMES
