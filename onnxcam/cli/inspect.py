"""`onnxcam inspect`: what is in a model that can be explained."""

from __future__ import annotations

import click

from onnxcam.cli import shell


@click.command()
@click.argument("model")
@shell.as_json
def inspect(model: str, as_json: bool) -> None:
    """List what in MODEL can be explained."""
    import onnxcam

    inspection = onnxcam.inspect(model)
    if as_json:
        click.echo(inspection.to_json())
        return
