"""The table of cases: every module of this folder has its rows in CASES."""

import importlib
import pkgutil

from tests.grad.harness import Case

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(__path__)
    for case in importlib.import_module(f"{__name__}.{module.name}").CASES
]
