"""`onnxcam inspect`: what is in a model that can be explained."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from onnxcam.cli import shell


@click.command()
@click.argument("model")
@click.option("--score", metavar="NAME", default="auto", help="Tensor with the scores. Default: before the softmax.")
@shell.as_json
def inspect(model: str, score: str, as_json: bool) -> None:
    """List what in MODEL can be explained."""
    import onnxcam

    found = onnxcam.inspect(model, score=score)
    if as_json:
        click.echo(found.to_json())
        return
    preprocess = _preprocess(found.preprocess)
    rows = [[x.name, x.op, shell.shape(x.shape), x.layout, "×".join(map(str, x.grid))] for x in found.layers]
    for row, mark in zip(rows, ["*", *[""] * len(rows)], strict=False):
        row.insert(0, mark)
    if rows:
        shell.print_table(["", "feature map", "operator", "shape", "layout", "grid"], rows)
    shell.print_facts(
        [
            ("*", "what `onnxcam explain` takes without --layer")
            if rows
            else ("feature maps", "none with a spatial extent"),
            ("inputs", [f"{x.name}  {x.dtype} {shell.shape(x.shape)} {x.layout or ''}".rstrip() for x in found.inputs]),
            ("scores", [f"{x.tensor}  {shell.shape(x.shape)}, {_before(x.activation)}" for x in found.scores]),
            ("classes", f"{len(found.labels)} names" if found.labels else "no names in the file"),
            ("preprocess", preprocess),
            ("no gradient", list(found.missing) or "all operators from the score to the first feature map have one"),
            ("made by", f"{found.producer or 'unknown'}, opset {found.opset}"),
        ]
    )


def _before(activation: str | None) -> str:
    return f"before the {activation}" if activation else "as the model returns it"


def _preprocess(given: Mapping[str, object] | None) -> str:
    from onnxcam.image import Preprocess

    if given is None:
        return "not in the file: `onnxcam explain` guesses it, and says so"
    return Preprocess.from_json(json.dumps(given), source="from the file").describe()
