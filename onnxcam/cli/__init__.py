"""The command line: a command parses, calls one public verb and prints. It is imported when it is named."""

import importlib
from typing import Any

import click

from onnxcam import __version__
from onnxcam.cli.shell import say_anything, told
from onnxcam.errors import unknown

COMMANDS = ("explain", "inspect", "convert", "check", "strip", "methods", "doctor")


class Commands(click.Group):
    """The commands, each in a module of its name; what they raise becomes one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"onnxcam.cli.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first, or say which is closest."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(str(unknown("command", args[0], COMMANDS)))
        return super().resolve_command(ctx, args)

    def make_context(self, info_name: str | None, *args: Any, **extra: Any) -> click.Context:
        """Read the options that stand before the command."""
        with told(lambda: info_name or "onnxcam"):
            return super().make_context(info_name, *args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        say_anything()
        with told(lambda: " ".join(filter(None, [ctx.command_path, ctx.invoked_subcommand]))):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onnxcam", message="%(prog)s %(version)s")
def main() -> None:
    """Show where an ONNX vision model looks: class activation maps of the file that is deployed."""
