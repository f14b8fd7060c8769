"""Methods that run the model again on masked inputs, and need no gradient."""

from typing import Literal

from onnxcam.errors import InputError
from onnxcam.evidence import Array, Evidence
from onnxcam.methods.array import minmax, per_channel, softmax, space, upsample, weighted_sum
from onnxcam.methods.registry import method


@method("scorecam", paper="https://arxiv.org/abs/1910.01279", uses="rescore", graph=False)
def scorecam(e: Evidence, *, weights: Literal["softmax", "probability"] = "softmax") -> Array:
    """Score-CAM: weigh each channel by the score that the model gives the input masked with that channel.

    U_k = A_k upsampled,  M_k = minmax(U_k),  s_k = score(input × M_k)

    `softmax` is pytorch-grad-cam's form: corners aligned, 1e-8 below the line of the min-max, w = softmax_k(s),
    map = sum_k w_k A_k at the layer's size. `probability` is that of the paper's own code: half-pixel upsampling,
    s_k the probability of the class, map = sum_k s_k U_k at the input's size, without channels that are constant.
    Raises InputError where the layer and the input differ in their number of spatial axes.
    """
    A, size, rescore = e.activation, e.size, e.rescore
    if size is None or rescore is None:
        raise InputError("Method 'scorecam' needs the spatial size of the model's input (size) and rescore.")
    xp = A.__array_namespace__()
    paper = weights == "probability"
    # Interpolation keeps a shift. Taken before it, the minimum leaves a constant channel exactly 0, not rounding noise.
    low = A - xp.min(A, axis=space(A), keepdims=True)

    def mask(n: int, k: slice) -> Array:
        U = upsample(low[n, k, ...], size, align_corners=not paper)
        return minmax(U, axis=tuple(range(1, 1 + len(size))), eps=0.0 if paper else 1e-8)

    scores = xp.astype(rescore(mask, A.shape[1], probability=paper), A.dtype)
    if not paper:
        return weighted_sum(per_channel(softmax(scores), like=A), A)
    w = xp.where(xp.max(low, axis=space(A)) > 0, scores, 0)
    return upsample(weighted_sum(per_channel(w, like=A), A), size)
