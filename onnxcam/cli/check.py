"""`onnxcam check`: what of a file would not run where it is meant to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from onnxcam.cli import shell
from onnxcam.profiles import PROFILES

if TYPE_CHECKING:
    from onnxcam.profiles.check import Report


@click.command()
@click.argument("model")
@click.option("--for", "profile", metavar="PROFILE", default="portable", show_default=True, help=", ".join(PROFILES))
@shell.as_json
@click.pass_context
def check(ctx: click.Context, model: str, profile: str, as_json: bool) -> None:
    """Name every node of MODEL that would not run in a runtime as others do.

    The exit code is 1 where a node would fail. One that falls back, to something slower, or that gives another result
    than ONNX specifies, is named too.
    """
    import onnxcam

    report = onnxcam.check(model, profile)
    click.echo(report.to_json()) if as_json else _print(report)
    if not report.ok:
        ctx.exit(1)


def _print(report: Report) -> None:
    if not report.findings:
        click.echo(f"Every node runs in '{report.profile}'.")
        return
    rows = [[f.severity, f.profile, f.operator, f.node, f.tensor, f.why] for f in report.findings]
    shell.print_table(["", "in", "operator", "node", "tensor", "why"], rows)
    others = len(report.findings) - len(report.fails)
    click.echo(f"{len(report.fails)} that would fail, {others} that would fall back or differ.")
