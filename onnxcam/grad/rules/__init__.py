"""The rules, one file per family of operators; importing this package imports all of them and fills the registry.

Control flow has its own in grad/control.py and grad/loops.py: they are walks again.
"""

import importlib
import pkgutil

import onnxcam.grad.loops  # noqa: F401 - registers If, Loop and Scan

for _family in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_family.name}")
