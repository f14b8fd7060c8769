"""`onnxcam doctor`: can models run here, and if not, what mends it."""

import dataclasses

import click

from onnxcam.cli import shell


@click.command()
@shell.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check onnxruntime and its providers.

    The exit code is 1 where something is wrong.
    """
    from onnxcam import run

    findings = run.doctor()
    if as_json:
        shell.print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.secho("ok   " if finding.ok else "WRONG", fg="green" if finding.ok else "red", nl=False)
            click.echo(f"  {finding.name}: {finding.detail}")
            if finding.mend:
                click.echo(f"       mend it with: {finding.mend}")
    if not all(finding.ok for finding in findings):
        ctx.exit(1)
