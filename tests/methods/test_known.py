"""Numbers that other projects publish or compute, written down."""

import numpy as np
import pytest

from onnxcam.evidence import Evidence
from onnxcam.methods import METHODS

from .fakes import FakeModel

# BasicModel_ConvNet_One_Conv of captum's tests, on arange(16): layer output, its gradient for class 0, and the map
# that captum/tests/attr/layer/test_grad_cam.py expects. Third row: the same with a second input of ones added.
CAPTUM = {
    "conv1": ([[-5, 4, 31, 40], [-30, -21, 6, 15]], [[0, 1, 1, 1], [0, 0, -1, -1]], [11.25, 13.5, 20.25, 22.5]),
    "relu1": ([[0, 4, 31, 40], [0, 0, 6, 15]], [[1, 1, 1, 1], [1, -1, -1, -1]], [0, 4, 28, 32.5]),
    "conv1, two inputs": ([[4, 13, 40, 49], [-21, -12, 15, 24]], [[1, 1, 1, 1], [0, 0, -1, -1]], [14.5, 19, 32.5, 37]),
}

# pytorch-grad-cam 1.5.7, get_cam_image, on the arrays of `ramp`.
PYTORCH_GRAD_CAM = {
    "gradcam": [[-0.042969, 0.046875, -0.078125, 0.054688], [-0.066406, -0.0625, -0.058594, 0.03125]],
    "gradcam++": [[0.219838, 0.512853, 0.622973, 0.341436], [0.73409, 0.280139, 0.562672, 0.855687]],
    "xgradcam": [[0.021372, 0.29841, 0.572011, 0.19144], [0.342283, 0.358071, 0.235312, 0.512351]],
    "hirescam": [[0.5, 0.625, 0.875, 0.4375], [-0.53125, 0.5, 0.75, -0.625]],
    "gradcamelementwise": [[0.5, 0.625, 0.875, 0.5], [0.25, 0.5, 0.75, 0.15625]],
    "layercam": [[0.3125, 0.5625, 0.875, 0.3125], [0.25, 0.375, 0.75, 0.15625]],
    "eigengradcam": [[-0.23119, 0.345853, -0.237849, 0.117248], [0.776872, 0.030216, -0.384036, -0.417115]],
    "scorecam": [[0.321376, 0.692369, 0.981672, 0.442369], [1.071376, 0.481672, 0.821376, 1.192369]],
}

# The loop of haofanwang/Score-CAM, with torch's interpolate and softmax, on the same: three rows of six.
SCORECAM_PAPER = [
    [0.299823, 0.479913, 0.696719, 0.843583, 0.654433, 0.428567],
    [0.531259, 0.555202, 0.622803, 0.797439, 0.75055, 0.660003],
    [0.994131, 0.705779, 0.474972, 0.70515, 0.942785, 1.122874],
]


def ramp():
    """Three channels of 2 × 4, and a model whose four classes are the quadrants of a 6 × 6 image."""
    k, i, j = np.indices((3, 2, 4))
    A, G = ((k * 7 + i * 3 + j * 5) % 11 - 2) / 4, ((k * 5 + i * 2 + j * 3) % 7 - 3) / 8
    quadrants = np.kron(np.eye(4).reshape(4, 1, 2, 2), np.ones((3, 3))) / 8
    model = FakeModel(np.arange(36.0).reshape(1, 1, 6, 6) / 36, quadrants, 0 * quadrants, [3])
    return Evidence(A[None].astype(np.float32), gradient=G[None].astype(np.float32), size=(6, 6), rescore=model)


@pytest.mark.parametrize("row", CAPTUM.values(), ids=CAPTUM)
def test_captum(row):
    A, G, expected = (np.array(x, np.float32).reshape(-1, 2, 2) for x in row)
    np.testing.assert_allclose(METHODS["gradcam"](Evidence(A[None], gradient=G[None])), expected, atol=1e-6)


@pytest.mark.parametrize("name", PYTORCH_GRAD_CAM)
def test_pytorch_grad_cam(name):
    m = METHODS[name](ramp())[0]
    if name == "eigengradcam" and np.sum(m * PYTORCH_GRAD_CAM[name]) < 0:
        m = -m  # its sign is whatever LAPACK returns
    np.testing.assert_allclose(m, PYTORCH_GRAD_CAM[name], atol=2e-6)


def test_scorecam_of_the_paper():
    m = METHODS["scorecam"](ramp(), weights="probability")[0]
    np.testing.assert_allclose(m[[0, 2, 5]], SCORECAM_PAPER, atol=2e-6)
