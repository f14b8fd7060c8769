import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest

from onnxcam.errors import InputError
from onnxcam.evidence import Evidence
from onnxcam.methods import METHODS, find
from onnxcam.methods.registry import method

from .fakes import evidence

NAMES = {
    *("cam", "gradcam", "gradcam++", "xgradcam", "hirescam", "gradcamelementwise", "layercam"),
    *("eigencam", "eigengradcam", "scorecam", "random"),
}


def test_names():
    assert set(METHODS) == NAMES


def test_every_method_tells_what_it_is():
    for name, m in METHODS.items():
        assert m.name == name
        assert m.paper.startswith("https://")
        assert 20 < len(m.summary) < 110
        assert m.summary.endswith(".")


def test_a_method_can_be_pickled_and_compared():
    for m in METHODS.values():
        assert pickle.loads(pickle.dumps(m)) == m  # noqa: S301 - our own bytes
    assert len(set(METHODS.values())) == len(METHODS)


def test_find():
    assert find("layercam").name == "layercam"
    with pytest.raises(InputError, match=r"No method 'gradcam\+'\. Did you mean 'gradcam\+\+' or 'gradcam'"):
        find("gradcam+")


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="registered twice"):
        method("cam", paper="", uses="activation")(lambda e: e)


@pytest.mark.parametrize(
    ("name", "lacks", "message"),
    [
        ("gradcam", "gradient", "'gradcam' needs the gradient of the score"),
        ("cam", "weights", "'cam' needs the weights of the linear layer"),
        ("scorecam", "rescore", "'scorecam' needs a way to run the model again"),
        ("scorecam", "size", "'scorecam' needs the spatial size"),
    ],
)
def test_a_missing_ingredient_is_named(name, lacks, message):
    with pytest.raises(InputError, match=message):
        METHODS[name](dataclasses.replace(evidence(), **{lacks: None}))


def test_unknown_options():
    with pytest.raises(InputError, match=r"No scorecam option 'weigths'\. Did you mean 'weights'"):
        METHODS["scorecam"](evidence(), weigths="softmax")
    with pytest.raises(InputError, match=r"No gradcam option 'alpha'\. There is: none"):
        METHODS["gradcam"](evidence(), alpha="plain")
    with pytest.raises(InputError, match=r"'weights' .* is 'logit'\. It must be one of: softmax, probability"):
        METHODS["scorecam"](evidence(), weights="logit")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": [[1.0]]}, "activation is a list"),
        ({"activation": np.zeros((2, 3))}, r"activation has shape \(2, 3\)"),
        ({"gradient": np.zeros((2, 3, 4, 5))}, r"gradient has shape \(2, 3, 4, 5\).* must be \(2, 3, 4, 4\)"),
        ({"gradient": np.zeros((2, 3, 4))}, r"gradient has shape \(2, 3, 4\)"),
        ({"weights": np.zeros((2, 4))}, r"weights has shape \(2, 4\).* must be \(2, 3\)"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_evidence_that_contradicts_itself(fields, message):
    with pytest.raises(InputError, match=message):
        Evidence(**{"activation": np.zeros((2, 3, 4, 4)), **fields})


def test_integers_are_refused():
    with pytest.raises(InputError, match="activation holds uint8"):
        METHODS["eigencam"](Evidence(np.zeros((1, 2, 3, 3), np.uint8)))


def test_scorecam_refuses_a_layer_with_other_axes():
    with pytest.raises(InputError, match="1 spatial axes cannot be resized"):
        METHODS["scorecam"](dataclasses.replace(evidence((5,)), size=(4, 4)))


@pytest.mark.parametrize("weights", ["softmax", "probability"])
def test_scorecam_never_holds_all_masks(weights):
    """256 masks of 64 × 64 in float32 are 4 MB; asked for by eights, far less is alive at any time."""
    A = np.random.default_rng(0).random((1, 256, 4, 4), dtype=np.float32)

    def rescore(mask, count, *, probability):
        return np.array([[m.sum() for k in range(0, count, 8) for m in mask(0, slice(k, k + 8))]])

    tracemalloc.start()
    METHODS["scorecam"](Evidence(A, size=(64, 64), rescore=rescore), weights=weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
