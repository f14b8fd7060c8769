"""Methods that need no gradient and no second run of the model, and the control that every method must beat."""

import numpy as np

from onnxcam.evidence import Array, Evidence
from onnxcam.methods.array import per_channel, weighted_sum
from onnxcam.methods.principal import principal_map
from onnxcam.methods.registry import method


@method("cam", paper="https://arxiv.org/abs/1512.04150", uses="weights")
def cam(e: Evidence) -> Array:
    """CAM: weigh each channel by the linear layer that follows global average pooling; no gradient needed.

    map = sum_k W_ck A_k  (eq. 2). Its mean over space is the score less the bias; it is Grad-CAM times the number of
    places.
    """
    return weighted_sum(per_channel(e.weights, like=e.activation), e.activation)


@method("eigencam", paper="https://arxiv.org/abs/2008.00299", uses="activation", graph=False)
def eigencam(e: Evidence) -> Array:
    """Eigen-CAM: the first principal component of the activation; the same map for every class.

    See `principal_map` for the sign, which the mathematics leaves open.
    """
    return principal_map(e.activation)


@method("random", paper="https://arxiv.org/abs/1810.03292", uses="activation", graph=False)
def random(e: Evidence) -> Array:
    """Random control: uniform noise in 0..1 that never looks at the model; what an explanation must beat.

    Sample n draws from `e.seed + n`, so a sample's noise does not depend on how a batch was cut.
    """
    A = e.activation
    batch, _, *grid = A.shape
    noise = [np.random.default_rng(e.seed + n).random(grid) for n in range(batch)]
    return A.__array_namespace__().asarray(np.stack(noise), dtype=A.dtype)
