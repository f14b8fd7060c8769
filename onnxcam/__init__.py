"""Class activation maps of vision models as they are deployed: from any ONNX file, with onnxruntime."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from onnxcam.conversion import convert
    from onnxcam.errors import InputError, ModelError, OnnxcamError, RuntimeUnavailable, UnsupportedGradient
    from onnxcam.grad.vjp import vjp
    from onnxcam.inspection import Inspection
    from onnxcam.methods import METHODS
    from onnxcam.original import strip
    from onnxcam.pipeline import Explainer
    from onnxcam.profiles.check import check
    from onnxcam.report import Explanation
    from onnxcam.trial import inspect

_HOMES = {
    "METHODS": "methods",
    "Explainer": "pipeline",
    "Explanation": "report",
    "InputError": "errors",
    "Inspection": "inspection",
    "ModelError": "errors",
    "OnnxcamError": "errors",
    "RuntimeUnavailable": "errors",
    "UnsupportedGradient": "errors",
    "check": "profiles.check",
    "convert": "conversion",
    "inspect": "trial",
    "strip": "original",
    "vjp": "grad.vjp",
}

__all__ = [
    "METHODS",
    "Explainer",
    "Explanation",
    "InputError",
    "Inspection",
    "ModelError",
    "OnnxcamError",
    "RuntimeUnavailable",
    "UnsupportedGradient",
    "check",
    "convert",
    "inspect",
    "strip",
    "vjp",
]


def __getattr__(name: str) -> object:
    """Import a public name where it is first used: `onnxcam --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxcam' has no attribute '{name}'")
    return getattr(importlib.import_module(f"onnxcam.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
