"""`onnxcam inspect`: what is in a model that can be explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from onnxcam.cli import shell

if TYPE_CHECKING:
    from onnxcam import Inspection
    from onnxcam.inspection import Score


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
    marked: tuple[str, str | list[str]] = ("feature maps", "none with a spatial extent")
    if found.layers:
        marks = ["*", *[""] * (len(found.layers) - 1)]
        rows = [
            [mark, x.name, x.op, shell.shape(x.shape), x.layout, shell.grid(x.grid) + _others(x.prefix)]
            for mark, x in zip(marks, found.layers, strict=True)
        ]
        shell.print_table(["", "feature map", "operator", "shape", "layout", "grid"], rows)
        first = found.layers[0]
        marked = ("*", ["what `onnxcam explain` takes without --layer", *filter(None, (first.why, first.note))])
    shell.print_facts(
        [
            marked,
            ("inputs", [f"{x.name}  {x.dtype} {shell.shape(x.shape)} {x.layout or ''}".rstrip() for x in found.inputs]),
            (
                "scores",
                [
                    f"{x.tensor}  {shell.shape(x.shape)}, {x.where or 'as the model returns it'}{_kind(x)}"
                    for x in found.scores
                ],
            ),
            ("classes", _classes(found)),
            ("preprocess", [found.preprocess.describe(), *found.assumed] if found.preprocess else "takes no photos"),
            ("no gradient", list(found.missing) or "none: every operator from the score to the feature map * has one"),
            ("explains", _explains(found)),
            ("made by", f"{found.producer or 'unknown'}, opset {found.opset}"),
        ]
    )


def _others(prefix: int) -> str:
    return f" after {prefix}" if prefix else ""


def _kind(score: Score) -> str:
    """What the axes of a score mean, where it is more than a row of classes for each sample."""
    kinds = {
        "boxes": f", boxes of a detector{f' of {score.classes} classes' if score.classes else ''}",
        "regions": ", classes at every place",
        "sequence": ", classes at every step",
        "embedding": ", an embedding",
    }
    return kinds.get(score.kind, "")


def _classes(found: Inspection) -> str:
    if not found.labels:
        return "no names in the file or beside it"
    return f"{len(found.labels)} names" + (f", from {found.labels_from}" if found.labels_from else "")


def _explains(found: Inspection) -> list[str]:
    """What an explainable file says about itself; all that is listed above is the original inside."""
    said = found.explains
    if not said:
        return []
    text = said.get("cam.target", "the default")
    target = {"-1": "the top class"}.get(text, text)
    return [
        f"{', '.join(json.loads(said['cam.emit']))} for {', '.join(json.loads(said['cam.layers']))}",
        f"method {said.get('cam.method', 'of your own')}, target {target}, by onnxcam {said['cam.version']}",
    ]
