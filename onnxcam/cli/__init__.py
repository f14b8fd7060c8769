"""The command line: a command parses, calls one public verb and prints. It is imported when it is named."""

import errno
import importlib

import click

from onnxcam import __version__
from onnxcam.cli.shell import failure, say_anything
from onnxcam.errors import InputError, OnnxcamError

COMMANDS = ("explain", "inspect", "convert", "check", "strip", "methods", "doctor")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


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

    def invoke(self, ctx: click.Context) -> object:
        """Run the command: 1 where it failed, 2 where it was misused."""
        say_anything()
        try:
            return super().invoke(ctx)
        except OnnxcamError as error:
            raise failure(error, 2 if isinstance(error, InputError) else 1) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader left, as `head` does: click ends without a word
                raise
            raise failure(error, 1) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onnxcam", message="%(prog)s %(version)s")
def main() -> None:
    """Show where an ONNX vision model looks: class activation maps of the file that is deployed."""
