"""Methods that weigh a layer's activation A by the gradient of the score, G = dS/dA.

All are sums over channels. They differ in what multiplies A: the mean of G over space (Grad-CAM), another average
of it (Grad-CAM++, XGrad-CAM), or G itself, place by place (HiResCAM and its relatives). The final ReLU that most
papers write belongs to the view; a ReLU that is left here is inside the sum.
"""

from typing import Literal

from onnxcam.evidence import Array, Evidence
from onnxcam.methods.array import ratio, relu, space, weighted_sum
from onnxcam.methods.principal import principal_map
from onnxcam.methods.registry import method


@method("gradcam", paper="https://arxiv.org/abs/1610.02391", uses="gradient")
def gradcam(e: Evidence) -> Array:
    """Grad-CAM: weigh each channel by its mean gradient.

    w_k = mean(G_k),  map = sum_k w_k A_k  (eq. 1 and 2)
    """
    A, G = e.activation, e.gradient
    xp = A.__array_namespace__()
    return weighted_sum(xp.mean(G, axis=space(G), keepdims=True), A)


@method("gradcam++", paper="https://arxiv.org/abs/1710.11063", uses="gradient")
def gradcam_plus_plus(e: Evidence, *, alpha: Literal["plain", "normalised"] = "plain") -> Array:
    """Grad-CAM++: weigh each channel by its positive gradients, place by place.

    alpha = G^2 / (2 G^2 + G^3 sum(A)),  w = sum(alpha relu(G)),  map = sum_k w_k A_k  (eq. 7 and 19)

    The closed form holds for exp(S), which makes the higher derivatives powers of G. `plain` adds 1e-6 below the
    line, as pytorch-grad-cam does. `normalised` divides alpha by its sum over the places where G > 0, as the
    authors' code does; that code also scales the whole map by exp(S), which is left out.
    """
    A, G = e.activation, e.gradient
    xp = A.__array_namespace__()
    below = 2 * G**2 + G**3 * xp.sum(A, axis=space(A), keepdims=True)
    if alpha == "plain":
        a = ratio(G**2, below + 1e-6)
    else:
        a = ratio(G**2, below)
        a = ratio(a, xp.sum(xp.where(G > 0, a, 0), axis=space(A), keepdims=True))
    return weighted_sum(xp.sum(a * relu(G), axis=space(A), keepdims=True), A)


@method("xgradcam", paper="https://arxiv.org/abs/2008.02312", uses="gradient")
def xgradcam(e: Evidence) -> Array:
    """XGrad-CAM: weigh each channel by its gradients, averaged in proportion to its activation.

    w_k = sum(G_k A_k) / sum(A_k),  map = sum_k w_k A_k

    1e-7 is added below the line, as pytorch-grad-cam does. Where activations take both signs the sum may be near 0,
    and one channel then outweighs all others.
    """
    A, G = e.activation, e.gradient
    xp = A.__array_namespace__()
    total = xp.sum(A, axis=space(A), keepdims=True)
    return weighted_sum(ratio(xp.sum(G * A, axis=space(A), keepdims=True), total + 1e-7), A)


@method("hirescam", paper="https://arxiv.org/abs/2011.08891", uses="gradient")
def hirescam(e: Evidence) -> Array:
    """HiResCAM: multiply gradient and activation place by place, and sum over channels.

    map = sum_k G_k A_k. Where the rest of the model is linear, the map sums to the score less the bias.
    """
    return weighted_sum(e.gradient, e.activation)


@method("gradcamelementwise", paper="https://arxiv.org/abs/2011.08891", uses="gradient")
def gradcam_elementwise(e: Evidence) -> Array:
    """Grad-CAM element-wise: HiResCAM with only the positive products.

    map = sum_k relu(G_k A_k). It is pytorch-grad-cam's variant, and has no paper of its own.
    """
    A, G = e.activation, e.gradient
    return A.__array_namespace__().sum(relu(G * A), axis=1)


@method("layercam", paper="https://ieeexplore.ieee.org/document/9462463", uses="gradient")
def layercam(e: Evidence) -> Array:
    """LayerCAM: multiply positive gradients and activation place by place; good at early layers too.

    map = sum_k relu(G_k) A_k
    """
    return weighted_sum(relu(e.gradient), e.activation)


@method("eigengradcam", paper="https://arxiv.org/abs/2008.00299", uses="gradient", graph=False)
def eigengradcam(e: Evidence) -> Array:
    """EigenGrad-CAM: the first principal component of gradient times activation; Eigen-CAM for one class.

    See `principal_map` for the sign, which the mathematics leaves open. It is pytorch-grad-cam's variant of Eigen-CAM.
    """
    return principal_map(e.gradient * e.activation)
