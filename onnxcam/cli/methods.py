"""`onnxcam methods`: the registry as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from onnxcam.cli import shell

if TYPE_CHECKING:
    from onnxcam.methods import Method


@click.command()
@shell.as_json
def methods(as_json: bool) -> None:
    """List the methods, what each needs, and its options."""
    from onnxcam import METHODS

    if as_json:
        shell.print_json([_record(method) for method in METHODS.values()])
        return
    shell.print_table(["method", "needs", "what it does"], [[m.name, m.uses, _text(m)] for m in METHODS.values()])


def _record(method: Method) -> dict[str, object]:
    options = {name: {"default": o.default, "choices": list(o.choices)} for name, o in method.options.items()}
    return {
        "name": method.name,
        "needs": method.uses,
        "summary": method.summary,
        "paper": method.paper,
        "options": options,
    }


def _text(method: Method) -> str:
    """Give summary, options as --option takes them (`name=a|b`, or `name=default`), and paper, each on a line."""
    options = [f"{name}={'|'.join(map(str, o.choices)) or o.default}" for name, o in method.options.items()]
    return "\n".join([method.summary, *(f"--option {option}" for option in options), method.paper])
