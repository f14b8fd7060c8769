"""The demo model, its photographs, and the command line as a person runs it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from onnxcam.cli import main

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments], prog_name="onnxcam")


@pytest.fixture(scope="session")
def model():
    return MODELS / "efficientnet-lite0.onnx"


@pytest.fixture(scope="session")
def cat():
    return MODELS / "cat.png"


@pytest.fixture(scope="session")
def espresso():
    return MODELS / "espresso.png"


@pytest.fixture(scope="session")
def both():
    """A cat in the left half, an espresso in the right."""
    return MODELS / "cat-and-espresso.png"
