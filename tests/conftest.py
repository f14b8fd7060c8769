"""A test draws the same numbers alone and among others, in whatever order they run."""

import copy

import pytest

_starts: dict[str, object] = {}


@pytest.fixture(autouse=True)
def same_numbers(request):
    """The generator of the test's module starts anew."""
    generator = getattr(request.module, "RNG", None)
    if generator is not None:
        state = _starts.setdefault(request.module.__name__, copy.deepcopy(generator.bit_generator.state))
        generator.bit_generator.state = state
