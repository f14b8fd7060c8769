"""`onnxcam strip`: the original out of an explainable file."""

import os

import click

from onnxcam.cli import shell


@click.command()
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="The original model.")
@shell.as_json
def strip(model: str, output: str, as_json: bool) -> None:
    """Write the original that the explainable MODEL was made from, byte for byte."""
    import onnxcam

    onnxcam.strip(model, output)
    record = {"model": model, "output": output, "bytes": os.path.getsize(output)}
    if as_json:
        shell.print_json(record)
    else:
        shell.print_facts([("size", f"{os.path.getsize(output) / 1e6:.2f} MB"), ("written", output)])
