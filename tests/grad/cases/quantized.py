"""Quantisation: the scale of a dequantiser, in which it is linear. The rest is in tests/grad/test_quantized.py."""

import numpy as np

from tests.grad.harness import Case, case, fed

Q = np.array([[[1, -7], [3, 50]], [[-128, 127], [0, 9]]], np.int8)
Z = np.array([3, -4], np.int8)
NEW = 28  # which onnxruntime 1.32 does not run

CASES: list[Case] = [
    *(
        case("DequantizeLinear", *operands, since=since, until=NEW, forward="ort", **axis)
        for operands, axis, since in (
            ((Q, (1,)), {}, 10),
            ((fed(Q, np.int8), (1,), np.array([3], np.int8)), {}, 10),
            ((np.abs(Q.astype(np.int32)), (1,)), {}, 10),
            ((Q, (2,), Z), {"axis": 0}, 13),
            ((fed(Q, np.int8), (2,), Z), {"axis": -1}, 13),
            ((Q, (2, 1, 2)), {"axis": 1, "block_size": 2}, 21),
            ((Q[:, :, [0, 1, 1]], (2, 2, 2), np.arange(8).reshape(2, 2, 2).astype(np.int8)),
             {"axis": 2, "block_size": 2}, 21),
        )
    ),
]  # fmt: skip
