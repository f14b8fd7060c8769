"""Recurrent operators: every equation, direction and form of sequence.

Inputs are X [steps, batch, input], W and R [directions, gates·hidden, …], B, lengths, initial states, peepholes. ORT is
the forward for what ONNX's reference passes over: lengths, other activations, clip, input_forget. In the dynamic test
an open number of steps makes a Scan of what is written step by step elsewhere.
"""

import numpy as np

from tests.grad.harness import Case, case, fed, positive, unit

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
H = 3


def weights(op: str, ways: int = 1) -> list[tuple[int, ...]]:
    """X, W and R."""
    return [(4, 2, 2), (ways, GATES[op] * H, 2), (ways, GATES[op] * H, H)]


def bias(op: str, ways: int = 1) -> tuple[int, ...]:
    return (ways, 2 * GATES[op] * H)


def recurrent(op: str, *rest: object, ways: int = 1, **words: object) -> Case:
    given: dict[str, object] = {"sample": unit, "hidden_size": H, "dynamic": (0, 1), "tolerance": 4e-3}
    return case(op, *weights(op, ways), *rest, **(given | words))  # type: ignore[arg-type]  # a row's words


START = (1, 2, H)
BOTH = (2, 2, H)
OTHERS = ["Elu", "Softsign", "HardSigmoid"]

CASES: list[Case] = [
    *(recurrent(op) for op in GATES),
    *(recurrent(op, bias(op), None, START) for op in GATES),
    *(recurrent(op, bias(op), direction="reverse", dynamic=(1,)) for op in GATES),
    *(recurrent(op, bias(op, 2), None, BOTH, ways=2, direction="bidirectional") for op in GATES),
    *(recurrent(op, bias(op), np.int32([4, 2]), START, forward="ort") for op in GATES),
    *(recurrent(op, bias(op), np.int32([3, 0]), START, forward="ort", dynamic=(0,)) for op in GATES),
    *(recurrent(op, None, fed([1, 3], np.int32), START, direction="reverse", forward="ort") for op in GATES),
    *(recurrent(op, bias(op), clip=0.3, forward="ort", dynamic=()) for op in GATES),
    recurrent("RNN", bias("RNN"), activations=["Affine"], activation_alpha=[0.7], activation_beta=[0.2], forward="ort"),
    recurrent("RNN", activations=["ScaledTanh"], activation_alpha=[0.7], activation_beta=[1.2], forward="ort"),
    recurrent("RNN", activations=["LeakyRelu"], activation_alpha=[0.3], forward="ort"),
    recurrent("RNN", activations=["ThresholdedRelu"], activation_alpha=[0.25], forward="ort"),
    recurrent("RNN", activations=["Relu"], sample=positive, forward="ort"),
    *(recurrent("RNN", activations=[name], forward="ort") for name in ("Softplus", "Sigmoid")),
    recurrent("GRU", bias("GRU"), None, START, linear_before_reset=1),
    recurrent("GRU", linear_before_reset=1),
    recurrent("GRU", bias("GRU", 2), ways=2, direction="bidirectional", linear_before_reset=1, dynamic=()),
    recurrent("GRU", bias("GRU"), activations=["HardSigmoid", "Softsign"], activation_alpha=[0.3], forward="ort"),
    recurrent("LSTM", bias("LSTM"), None, START, START, (1, 3 * H)),
    recurrent("LSTM", None, None, None, None, (1, 3 * H), direction="reverse"),
    recurrent("LSTM", bias("LSTM", 2), None, BOTH, BOTH, (2, 3 * H), ways=2, direction="bidirectional", dynamic=(1,)),
    recurrent("LSTM", bias("LSTM"), None, START, START, (1, 3 * H), input_forget=1, forward="ort"),
    recurrent("LSTM", bias("LSTM"), None, START, START, clip=0.55, forward="ort"),
    recurrent("LSTM", activations=OTHERS, activation_alpha=[0.8, 0.3], activation_beta=[0.4], forward="ort"),
    recurrent(
        "LSTM",
        bias("LSTM", 2),
        activations=["sigmoid", "tanh", "tanh", "sigmoid", "Softsign", "Tanh"],
        ways=2,
        direction="bidirectional",
        forward="ort",
    ),
]  # fmt: skip
