"""The rules, one file per family of operators; importing this package imports all of them and fills the registry."""

import importlib
import pkgutil

for _family in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_family.name}")
