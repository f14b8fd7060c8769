"""`onnxcam inspect`: what is in a model that can be explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from onnxcam.cli import shell

if TYPE_CHECKING:
    from onnxcam import Inspection


@click.command()
@click.argument("model")
@click.option("--score", metavar="NAME", default="auto", help="Tensor with the scores. Default: before the softmax.")
@shell.as_json
def inspect(model: str, score: str, as_json: bool) -> None:
    """List what in MODEL can be explained."""
    import onnxcam

    found = onnxcam.inspect(model, score=score)
    click.echo(found.to_json()) if as_json else _print(found)


def _print(found: Inspection) -> None:
    preprocess = _preprocess(found)
    marked = ("feature maps", "none with a spatial extent")
    if found.layers:
        marks = ["*", *[""] * (len(found.layers) - 1)]
        rows = [
            [mark, x.name, x.op, shell.shape(x.shape), x.layout, shell.grid(x.grid)]
            for mark, x in zip(marks, found.layers, strict=True)
        ]
        shell.print_table(["", "feature map", "operator", "shape", "layout", "grid"], rows)
        marked = ("*", "what `onnxcam explain` takes without --layer")
    shell.print_facts(
        [
            marked,
            ("inputs", [f"{x.name}  {x.dtype} {shell.shape(x.shape)} {x.layout or ''}".rstrip() for x in found.inputs]),
            ("scores", [f"{x.tensor}  {shell.shape(x.shape)}, {_before(x.activation)}" for x in found.scores]),
            ("classes", f"{len(found.labels)} names" if found.labels else "no names in the file"),
            ("preprocess", preprocess),
            ("no gradient", list(found.missing) or "none: every operator from the score to the feature map * has one"),
            ("made by", f"{found.producer or 'unknown'}, opset {found.opset}"),
        ]
    )


def _before(activation: str | None) -> str:
    return f"before the {activation}" if activation else "as the model returns it"


def _preprocess(found: Inspection) -> str:
    from onnxcam.image import Preprocess

    if found.preprocess is None:
        return "not in the file: `onnxcam explain` guesses it, and says so"
    return Preprocess.from_json(json.dumps(found.preprocess), source="from the file").describe()
