"""Targets of a score with classes: one of them, its probability or log-odds, one against another, against its likes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from onnxcam.choice import HUGE, largest, least, lowered, per_sample, reshaped, softmax, total
from onnxcam.errors import InputError
from onnxcam.grad.tensor import Value, op
from onnxcam.inspection import Score
from onnxcam.target import TOP, one_hot
from onnxcam.targets.goal import TARGET, Answer, Array, Goal, OfClass, Scene


@dataclass(frozen=True)
class Class(OfClass):
    """The score of one class, summed over its places where it has several; −1 is the class with the largest sum."""

    cls: int = TOP

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """D z_c / d z = 1[c]."""
        mask, cls = scene.pick(given[TARGET])
        y = scene.y
        if scene.axis == 1:
            seed = y.tape.retype(one_hot(y, reshaped(least(cls, 0), y.rank)), y.type)
        else:
            seed = scene.seed(mask)
        return Answer(seed, per_sample(mask * scene.z), {"class": cls})


@dataclass(frozen=True)
class Probability(OfClass):
    """The probability of one class, p = softmax(z)_c, or sigmoid(z_c) for scores that end in one."""

    cls: int = TOP

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """D p_c / d z_j = p_c (1[c] − p_j), with 1 − p_c as the sum of the others: it does not vanish by rounding."""
        z, axis = _rowed(scene), scene.axis
        mask, cls = scene.pick(given[TARGET])
        if independent(scene.score):
            p = op.Sigmoid(z)
            return Answer(scene.seed(mask * p * op.Sigmoid(-z)), per_sample(mask * p), {"class": cls})
        p = softmax(z, axis)
        others = p * (1 - mask)
        seed = total(mask * p, [axis]) * (mask * total(others, [axis]) - others)
        return Answer(scene.seed(seed), per_sample(mask * p), {"class": cls})


@dataclass(frozen=True)
class LogOdds(OfClass):
    """The log-odds of one class, log p/(1 − p): what speaks for it against all the others together."""

    cls: int = TOP

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """z_c − log Σ_{j≠c} exp z_j: 1[c] − softmax over the others. Behind a sigmoid it is z_c itself."""
        z, axis = _rowed(scene), scene.axis
        mask, cls = scene.pick(given[TARGET])
        own = total(mask * z, [axis])
        if independent(scene.score):
            return Answer(scene.seed(mask), per_sample(own), {"class": cls})
        if scene.score.classes == 1:
            raise InputError("Log-odds against other classes need at least two: the score has one.")
        rest = lowered(z, mask)
        peak = op.ReduceMax(rest, axes=[axis], keepdims=1)
        e = op.Exp(op.Clip(rest - peak, min=-1e4)) * (1 - mask)
        sums = total(e, [axis])
        number = own - peak - op.Log(sums)
        return Answer(scene.seed(mask - e / sums), per_sample(number), {"class": cls})


@dataclass(frozen=True)
class Finer(OfClass):
    """One class minus the mean of the classes whose scores are closest to its own, weighted by their probabilities.

    Finer-CAM, https://arxiv.org/abs/2501.11309, as pytorch-grad-cam computes it: `alpha` scales what is subtracted,
    `count` classes are compared with.
    """

    cls: int = TOP
    alpha: float = 1.0
    count: int = 3

    @property
    def form(self) -> tuple[object, ...]:
        """One for all classes."""
        return type(self), self.alpha, self.count

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """z_c − α m with m = Σ q_d z_d, q the softmax over the closest: 1[c] − α q (1 + z − m)."""
        classes = scene.score.classes
        if classes is not None and classes < 2:
            raise InputError("Finer-CAM compares a class with others: the score has one class.")
        if self.count < 1 or not abs(self.alpha) <= HUGE:
            raise InputError(f"Finer-CAM compares with at least one class: count={self.count}, alpha={self.alpha}.")
        z, axis = _rowed(scene), scene.axis
        mask, cls = scene.pick(given[TARGET])
        own = total(mask * z, [axis])
        near, taken = -op.Abs(z - own), mask
        for _ in range(self.count if classes is None else min(self.count, classes - 1)):
            taken = taken + largest(lowered(near, taken), axis)
        rest = taken - mask
        e = op.Exp(op.Clip(z - op.ReduceMax(lowered(z, 1 - rest), axes=[axis], keepdims=1), max=0.0)) * rest
        q = e / total(e, [axis])
        m = total(q * z, [axis])
        seed = mask - q * (z - m + 1.0) * self.alpha
        return Answer(scene.seed(seed), per_sample(own - m * self.alpha), {"class": cls})


@dataclass(frozen=True)
class Sum:
    """Targets added up with weights: `Sum(((1, A), (-1, B)))` asks why A rather than B."""

    terms: tuple[tuple[float, Goal], ...]

    def __post_init__(self) -> None:
        """Raise InputError for a sum of nothing, and for weights that float32 cannot hold."""
        if not self.terms:
            raise InputError("A sum of targets needs at least one: Sum(((1, A), (-1, B))).")
        for weight, _ in self.terms:
            if not abs(weight) <= HUGE:
                raise InputError(f"A weight in a target has to be a finite number that float32 holds, not {weight}.")

    @property
    def form(self) -> tuple[object, ...]:
        """The weights, and the forms of what is added."""
        return type(self), *((w, goal.form) for w, goal in self.terms)

    @property
    def inputs(self) -> dict[str, Array]:
        """Those of the first term, and of the others under their names and the number of the term."""
        return {_named(name, i): v for i, (_, goal) in enumerate(self.terms) for name, v in goal.inputs.items()}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """Σ w · seed."""
        answers = [
            goal.answer(scene, {name: given[_named(name, i)] for name in goal.inputs})
            for i, (_, goal) in enumerate(self.terms)
        ]
        weights = [w for w, _ in self.terms]
        seed = reduce(op.Add, [_times(a.seed, w) for a, w in zip(answers, weights, strict=True)])
        number = reduce(op.Add, [_times(a.number, w) for a, w in zip(answers, weights, strict=True)])
        return Answer(scene.y.tape.retype(seed, scene.y.type), number, answers[0].found)


def _named(name: str, term: int) -> str:
    return f"{name}/{term}" if term else name


def _times(x: Value, weight: float) -> Value:
    return x if weight == 1 else x * weight


def independent(score: Score) -> bool:
    """Whether each class has a probability of its own: behind a sigmoid, or where there is one class only."""
    return score.activation == "sigmoid" or (score.activation is None and score.classes == 1)


def _rowed(scene: Scene) -> Value:
    """The score. Raises InputError where its classes have places, each with probabilities of its own."""
    if any(scene.z.shape[i] != 1 for i in scene.places):
        raise InputError(
            f"'{scene.score.tensor}' has classes at many places: a probability, odds and finer need one row of classes "
            "a sample. Explain the class where you want it, as in '1@predicted'."
        )
    return scene.z
