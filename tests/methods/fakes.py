"""Evidence without a model: random arrays, and a small function of masked inputs in place of the model."""

import numpy as np

from onnxcam.evidence import Evidence


class FakeModel:
    """Three classes, each a quadratic function of an input of two channels. It is the `rescore` of evidence.

    It asks for masks `chunk` at a time, never more, and checks each one.
    """

    def __init__(self, images, linear, square, targets, chunk=2):
        self.images, self.linear, self.square, self.targets, self.chunk = images, linear, square, targets, chunk

    @classmethod
    def random(cls, generator, samples, size):
        images = generator.normal(size=(samples, 2, *size))
        linear, square = generator.normal(size=(2, 3, 2, *size)) / np.prod(size)
        return cls(images, linear, square, [n % 3 for n in range(samples)])

    def of(self, n):
        return FakeModel(self.images[n : n + 1], self.linear, self.square, self.targets[n : n + 1], self.chunk)

    def score(self, n, mask, probability=False):
        x = self.images[n] * mask
        logits = [float(np.sum(a * x) + np.sum(b * x**2)) for a, b in zip(self.linear, self.square, strict=True)]
        if probability:
            logits = list(np.exp(logits) / np.sum(np.exp(logits)))
        return logits[self.targets[n]]

    def __call__(self, mask, count, *, probability=False):
        scores = np.zeros((len(self.images), count))
        for n in range(len(self.images)):
            for start in range(0, count, self.chunk):
                k = slice(start, min(start + self.chunk, count))
                masks = mask(n, k)
                assert masks.shape == (k.stop - k.start, *self.images.shape[2:])
                assert masks.min() >= 0
                assert masks.max() <= 1 + 1e-6
                scores[n, k] = [self.score(n, m, probability) for m in masks]
        return scores


GRIDS = {"1d": (5,), "2d": (3, 4), "2d-wide": (2, 2), "3d": (2, 3, 2)}
SIZES = {1: (9,), 2: (7, 6), 3: (4, 5, 3)}


def evidence(grid=(3, 4), dtype=np.float64, samples=3, channels=6, seed=0):
    """Random evidence with both signs in activation and gradient, one dead channel, and everything a method may use."""
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(samples, channels, *grid)) + 0.3
    A[0, 1] = 0.0
    size = SIZES[len(grid)]
    return Evidence(
        activation=A.astype(dtype),
        gradient=generator.normal(size=A.shape).astype(dtype),
        weights=generator.normal(size=A.shape[:2]).astype(dtype),
        size=size,
        rescore=FakeModel.random(generator, samples, size),
        seed=seed,
    )
