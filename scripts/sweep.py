"""Explain many networks without a flag, one line each: the layer that is chosen, the gradient, the cost, a verdict.

    scripts/sweep                                  everything, in the environments that it needs
    scripts/sweep torchvision --only resnet        one list, only names with 'resnet' in them
    python scripts/sweep.py table                  only write the table, of the rows that are in the cache

Each network has random weights that behave (scripts/zoo.py) and three smooth random pictures whose side is the column
'input'. Its file is opened, explained and run without a flag, as `onnxcam convert` does.

- **layer** is the tensor that `inspect` put first, and **expert** the module of the framework that has the same values
  (scripts/experts.py lists what an expert would defend for each family; `<` is a module's input).
- **gradient** is its relative L2 distance from the framework's autograd in float64, the best of three pictures;
  **float32** that of the framework's own float32 gradient. Where there is no autograd it is the distance from central
  differences of ONNX's reference implementation in float64, along random directions.
- A detector has a layer for each size of boxes, and an expert would defend its backbone's outputs; the gradient is that
  of its best box's score, or of box number 3's if that is worse, at all of them together. It takes one picture at a
  time, without a batch.
- **cost** is the processor time of the explainable file as a multiple of the plain one's, on one thread.
- **prefix**: the original's nodes, initializers, outputs and metadata are the first of the explainable file's, byte for
  byte; a row where they are not is wrong.

'right' means all of it: no flag, a layer that an expert would defend, a gradient within 1e-4 or within 1.5 times the
framework's own error, and the prefix. 'kinks' means that rounding flipped masks of ReLU or MaxPool between the layer
and the score, and that the network's smooth twin is within the limit. 'no file' is not ours: the exporter failed, or
onnxruntime cannot run what it wrote. 'layer' is one that an expert would not choose: CvT makes keys and values by
convolutions with a stride, and that of the values, which half of all ways lead through, is taken for the norm before
them, whose grid is another. Of ConvNeXt without a head the features themselves are the score, and a branch of its last
block is what comes before them.
"""

import gc
import hashlib
import importlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring
from common import Rows, arguments, markdown, select, versions, write_result
from experts import TIMM, TORCHVISION, TRANSFORMERS, nameless
from pairing import Unpaired

import onnxcam
from onnxcam.errors import OnnxcamError

EXACT, RATIO = 1e-4, 1.5
ZOOS = {
    "torchvision": "sweep_torch",
    "timm": "sweep_torch",
    "transformers": "sweep_transformers",
    "segmentation": "sweep_torch",
    "detection": "sweep_detection",
    "keras": "sweep_keras",
    "files": "sweep_files",
}
GROUPS = {
    "torchvision": "torchvision, classification",
    "segmentation": "torchvision, segmentation",
    "detection": "torchvision, detection",
    "timm": "timm",
    "transformers": "transformers, by optimum",
    "keras": "keras.applications",
    "files": "Third-party files",
}
EXPERTS = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}
COLUMNS = ("network", "exporter", "opset", "input", "layer", "expert", "layout", "grid", "score", "gradient", "float32",
           "cost", "verdict")  # fmt: skip


class OutOfTimeError(Exception):
    """A network took longer than it may."""


def code() -> str:
    """Identify the code of the package by its bytes."""
    content = [file.read_bytes() for file in sorted(Path(onnxcam.__file__).parent.rglob("*.py"))]
    return hashlib.sha256(b"".join(content)).hexdigest()[:12]


def short(error: BaseException) -> str:
    """Fit an error on one line of a table."""
    text = " ".join(str(error).split()).replace("|", "/")
    return f"{type(error).__name__}: {text}"[:220] if text else type(error).__name__


def cause(error: BaseException) -> BaseException:
    """Find what an exporter's error was raised from."""
    return cause(error.__cause__) if error.__cause__ else error


def measure(subject: Any, exporter: str, folder: Path) -> dict[str, Any]:
    """Measure one file; the row says how far it came."""
    path = folder / "network.onnx"
    try:
        subject.export(exporter, path)
        batch = measuring.batch_of(path)
        feeds = subject.feeds(path)
        measuring.run_plain(path, feeds)
    except OutOfTimeError:
        raise
    except Exception as error:  # noqa: BLE001 - an exporter's failure is a result of its own
        return {"error": f"no file: {short(cause(error))}"}
    try:
        if hasattr(subject, "row"):
            return subject.row(path)
        found = measuring.explain(path, feeds)
    except OnnxcamError as error:
        return {"error": f"refused: {short(error)}"}
    except OutOfTimeError:
        raise
    except Exception as error:  # noqa: BLE001 - ours or onnxruntime's, it is a failure of the file that we made
        return {"error": f"wrong: {short(error)}"}
    row = {"opset": found.opset, "batch": batch, **measuring.about(found)}
    row |= accuracy(subject, path, found, feeds)
    if not exact(row) and hasattr(subject, "twin"):
        row["smooth"] = without_kinks(subject.twin(), exporter, folder)
    row["expert"] = subject.expert(found.values, found.layer.tensor)
    count = len(found.values) if batch == "dynamic" else 0
    one = {name: value[:1] if len(value) == count else value for name, value in feeds.items()}
    return row | {"cost": measuring.cost(path, found.model, one)}


def accuracy(subject: Any, path: Path, found: Any, feeds: Any) -> dict[str, Any]:
    """Compare with autograd, or with central differences where the framework has no such tensor."""
    try:
        true = subject.truth(found.values, found.scores, found.seed)
    except (Unpaired, RuntimeError) as error:
        return {"ours": measuring.differences(found, feeds), "float32": None, "unpaired": short(error)}
    ours, float32 = (measuring.best_error(each, true["float64"]) for each in (found.gradient, true["float32"]))
    return {"ours": ours, "float32": float32}


def without_kinks(twin: Any, exporter: str, folder: Path) -> float:
    """Measure the gradient of a network's smooth twin."""
    path = folder / "smooth.onnx"
    twin.export(exporter, path)
    feeds = twin.feeds(path)
    return accuracy(twin, path, measuring.explain(path, feeds), feeds)["ours"]


def exact(row: dict[str, Any]) -> bool:
    return row["ours"] <= max(EXACT, RATIO * (row["float32"] or 0))


def verdict(row: dict[str, Any]) -> str:
    """Say whether the row is right, and why not."""
    if "error" in row:
        return row["error"]
    if not row["prefix"]:
        return "wrong: the original is no prefix"
    if not exact(row):
        return "kinks" if (row.get("smooth") or 1) <= EXACT else "wrong: the gradient"
    return "right" if expert(row) else "layer: not the expert's"


def expert(row: dict[str, Any]) -> str | None:
    """Name what an expert would call the row's layer; None where nobody would choose it."""
    return row["expert"] or nameless(row["network"], row["tensor"])


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row."""
    if "error" in row:
        return [row["network"], row["exporter"], "", str(row["size"]), *[""] * 8, verdict(row)]
    float32 = "differences" if row["float32"] is None else f"{row['float32']:.0e}"
    return [
        row["network"],
        row["exporter"] + (", fixed batch" if row["batch"] == "fixed" else ""),
        str(row["opset"]),
        str(row["size"]),
        f"`{row['tensor']}`",
        f"`{expert(row)}`" if expert(row) else "",
        row["layout"],
        row["grid"],
        f"`{row['score']}`",
        f"{row['ours']:.0e}",
        float32,
        f"{row['cost']:.2f}",
        verdict(row),
    ]


def kind(row: dict[str, Any]) -> str:
    return verdict(row).partition(":")[0]


def report(rows: Rows) -> str:
    """Format the Markdown report: a count of the verdicts, then a table for each list."""
    parts = ["# Any exported model, no flags", "Made by `scripts/sweep` with:"]
    parts.append("\n".join(f"- {each}" for each in sorted({row["versions"] for row in rows.values()})))
    parts.append(__doc__.partition("in the cache\n\n")[2])
    counts = {name: Counter(kind(row) for row in rows.values() if row["list"] == name) for name in GROUPS}
    kinds = sorted({each for count in counts.values() for each in count}, key=lambda each: (each != "right", each))
    lines = [[GROUPS[name], *(str(count[each] or "") for each in kinds)] for name, count in counts.items() if count]
    parts += ["## Verdicts", markdown(("list", *kinds), lines)]
    for name, title in GROUPS.items():
        some = [cells(rows[key]) for key in sorted(rows, key=str.lower) if rows[key]["list"] == name]
        parts += [f"## {title}", markdown(COLUMNS, some)] if some else []
    lines = [[library, f"`{family or 'other'}…`".replace("|", "…`, `"), ", ".join(f"`{path}`" for path in paths)]
             for library, table in EXPERTS.items() for family, paths in table.items()]  # fmt: skip
    parts += ["## What an expert would defend", markdown(("library", "family", "modules"), lines)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def todo(rows: Rows, key: str, now: str, stale: bool) -> bool:
    """Tell whether a row is missing, or was not right and the package has changed since."""
    row = rows.get(key)
    return row is None or (row["code"] != now and (stale or kind(row) != "right"))


def jobs(names: list[str], exporters: tuple[str, ...], passes: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Go through the networks once, or once for each exporter."""
    for some in [(each,) for each in exporters] if passes else [exporters]:
        for name in names:
            yield name, some


def sweep(group: str, rows: Rows, options: Any) -> None:
    """Measure the rows of one list that are missing."""
    zoo = importlib.import_module(ZOOS[group])
    names, make = zoo.LISTS[group]
    now, start = code(), time.monotonic()
    exporters = tuple(select(zoo.EXPORTERS, options.exporter))
    for name, some in jobs(select(names(), options.only), exporters, options.passes):
        missing = [each for each in some if options.fresh or todo(rows, f"{group} {name} {each}", now, options.stale)]
        if not missing or time.monotonic() - start > 60 * options.minutes:
            continue
        made = {"list": group, "network": name, "code": now}
        made["versions"] = versions(*zoo.PACKAGES, "onnx", "onnxruntime", "numpy")
        signal.alarm(options.seconds)
        try:
            subject = make(name)
            for exporter in missing:
                with tempfile.TemporaryDirectory(dir=options.cache) as folder:
                    row = measure(subject, exporter, Path(folder))
                new = rows.add(f"{group} {name} {exporter}", **made, exporter=exporter, size=subject.size, **row)
                print("  ".join(cells(new)), flush=True)
                signal.alarm(options.seconds)
        except OutOfTimeError:
            print(f"{name}: out of time", flush=True)
        except Exception as error:  # noqa: BLE001 - the other networks go on
            print(f"{name}: FAILED: {short(error)}", flush=True)
        finally:
            signal.alarm(0)
            subject = None
            gc.collect()


def out_of_time(*_: object) -> None:
    raise OutOfTimeError


def main() -> int:
    """Measure, print, write the report; 1 when a row is wrong."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("list", choices=[*ZOOS, "table"])
    parser.add_argument("--exporter", action="append", default=[], metavar="NAME", help="only exporters with NAME")
    parser.add_argument("--passes", action="store_true", help="all networks with one exporter, then with the next")
    parser.add_argument("--stale", action="store_true", help="measure again what other code of the package measured")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no network after this long")
    parser.add_argument("--seconds", type=int, default=900, help="give up a network after this long")
    options = parser.parse_args()
    rows = Rows(options.cache / "sweep.jsonl")
    signal.signal(signal.SIGALRM, out_of_time)
    if options.list != "table":
        sweep(options.list, rows, options)
    write_result("sweep", report(rows))
    return int(any(kind(row) in ("wrong", "layer") for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
