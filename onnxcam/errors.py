"""One small tree of errors. A message says what failed, where, and what to do about it."""

import difflib
import re
from collections.abc import Iterable


class OnnxcamError(Exception):
    """Base of every error that this package raises on purpose; its text is one line for a person."""


class ModelError(OnnxcamError):
    """The model cannot be used: unreadable, invalid, or without what an explanation needs."""


class UnsupportedGradient(OnnxcamError):
    """An operator between the score and the layer has no gradient, or not with these attributes."""


class InputError(OnnxcamError):
    """What the caller gave is wrong: a name, a class, an array, a photograph, an option."""


class RuntimeUnavailable(OnnxcamError):
    """onnxruntime, or the provider that was asked for, cannot be used here."""


def unknown(kind: str, name: object, names: Iterable[str]) -> InputError:
    """The error for a name that is not among `names`: those it is part of, the closest, else all (at most 12)."""
    known, wanted = list(dict.fromkeys(names)), str(name).strip().lower()
    parts = [n for n in known if wanted in n.lower()] if wanted else []
    parts.sort(key=lambda n: wanted not in re.split(r"\W+", n.lower()))  # "cat" is "tiger cat" before "catamaran"
    lower = {n.lower(): n for n in reversed(known)}
    close = [lower[n] for n in difflib.get_close_matches(wanted, lower, n=3, cutoff=0.5)]
    near = list(dict.fromkeys([*parts, *close] if len(wanted) > 2 else [*close, *parts]))[:3]
    if near:
        return InputError(f"No {kind} '{name}'. Did you mean {' or '.join(repr(n) for n in near)}?")
    listed = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return InputError(f"No {kind} '{name}'. There is: {listed or 'none'}.")
