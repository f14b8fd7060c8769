"""`onnxcam convert`: the model and what explains it, in one ONNX file."""

from __future__ import annotations

import click

from onnxcam.cli import shell


@click.command()
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="The explainable model.")
@click.option(
    "--layer", "layers", metavar="NAME", multiple=True, help="Feature map; may be repeated. Default: the last."
)
@click.option("--target", metavar="CLASS", help="Index or name of the class. Default: the top class.")
@click.option("--score", metavar="NAME", default="auto", help="Tensor with the scores. Default: before the softmax.")
@click.option("--emit", metavar="NAMES", default="activation,gradient", show_default=True, help="What it returns.")
@shell.as_json
def convert(
    model: str, output: str, layers: tuple[str, ...], target: str | None, score: str, emit: str, as_json: bool
) -> None:
    """Write MODEL as a file that returns what explains it."""
    import onnxcam

    explainable = onnxcam.convert(
        model, output, layers=list(layers) or "auto", target=shell.target(target), score=score, emit=emit.split(",")
    )
