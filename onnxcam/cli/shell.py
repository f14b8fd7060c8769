"""What all commands share: errors, options that repeat, progress, and the two ways to print."""

import errno
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import IO, Any

import click

from onnxcam.errors import InputError, ModelError, OnnxcamError

Report = Callable[[str, int, int], None]  # what is done, how far, of how much

_MADE_UP = re.compile(r"[()*+:]|^unk__\d+$")  # sizes that shape inference named: formulas, numbers

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


class Failure(click.ClickException):
    """One line on stderr, and an exit code."""

    def __init__(self, message: str, exit_code: int, start: str = "Error") -> None:
        """`start` is what stands before the colon."""
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc]  # click documents it for classes only
        self.start = start

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"{self.start}: {self.message}", file=file, err=True)


@contextmanager
def told(command: Callable[[], str]) -> Iterator[None]:
    """Make every error a line and an exit code: 2 where what was given is wrong, 1 where it failed nevertheless.

    `command` is what was called, for what click finds wrong with its options.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        message = error.format_message()
        raise Failure(f"{message}{'' if message[-1] in '.?' else '.'} See --help.", 2, command()) from error
    except (InputError, ModelError) as error:
        raise Failure(str(error), 2) from error
    except OnnxcamError as error:
        raise Failure(str(error), 1) from error
    except MemoryError as error:
        raise Failure("There is not enough memory for this model, or for photos of this size.", 1) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader left, as `head` does: click ends without a word
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}.", 1) from error
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def say_anything() -> None:
    """Let stdout and stderr replace what their encoding lacks: a name in a model must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def target(text: str | None) -> int | str | None:
    """Read --target: a number is the index of a class, all else is a name or "top5"."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def options(pairs: Iterable[str]) -> dict[str, object]:
    """Read --option KEY=VALUE: numbers, true, false and null as JSON has them, all else is text.

    Raises InputError for a pair without "=".
    """
    given: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--option '{pair}' is not KEY=VALUE.")
        try:
            given[key] = json.loads(value)
        except ValueError:
            given[key] = value
    return given


def shape(dims: Iterable[object]) -> str:
    """Give a tensor's shape as ONNX tools print it; ? where a size is open and has no name that a person gave it."""
    return f"[{', '.join('?' if d is None or _MADE_UP.search(str(d)) else str(d) for d in dims)}]"


def grid(dims: Iterable[object]) -> str:
    """Give a size in space: 7×7; ? where it is open."""
    return "×".join(str(d) if isinstance(d, int) else "?" for d in dims)


@contextmanager
def progress() -> Iterator[Report | None]:
    """Show progress bars on stderr where a person looks at it; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = bars.add_task(text, total=total)
            bars.update(tasks[text], completed=done, total=total)

        yield report


def print_json(document: object) -> None:
    """Print a document as JSON; numbers that JSON lacks become null."""
    click.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def print_facts(facts: Iterable[tuple[str, str | Sequence[str]]]) -> None:
    """Print names and their values, one below the other, several values of a name each on a line."""
    rows = [(name, [values] if isinstance(values, str) else list(values)) for name, values in facts]
    width = max((len(name) for name, _ in rows), default=0)
    for name, values in rows:
        for i, value in enumerate(values):
            click.echo(f"{click.style(('' if i else name).ljust(width), dim=True)}  {value}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table, cut to the width of a terminal, but never in a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Names of layers hold "[", ":" and "/": no markup, no emoji, no highlighting.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()).strip("\n"))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
