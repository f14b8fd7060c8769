"""What the measuring scripts share: smooth random images, tables of results, rows that survive an interruption."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
CACHE = ROOT / "build" / "zoo"


def smooth_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Draw pictures with structure at every scale, standardised: float32 [count, 3, size, size].

    White noise averages out after a few convolutions, and then every sample gives the same activations.
    """
    rng = np.random.default_rng(seed)
    images = np.zeros((count, size, size, 3), np.float32)
    for cells in (3, 8, 24, 64):
        noise = rng.standard_normal((count, cells, cells, 3)).astype(np.float32)
        images += np.stack([cv2.resize(each, (size, size), interpolation=cv2.INTER_CUBIC) for each in noise])
    images += 0.3 * rng.standard_normal(images.shape).astype(np.float32)
    images -= images.mean((1, 2, 3), keepdims=True)
    images /= images.std((1, 2, 3), keepdims=True)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def relative_error(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Measure the relative L2 distance of each sample, in float64: [N]."""
    found, true = (each.reshape(len(each), -1).astype(np.float64) for each in (found, true))
    return np.linalg.norm(found - true, axis=1) / np.maximum(np.linalg.norm(true, axis=1), 1e-300)


class Rows(dict[str, dict[str, Any]]):
    """Rows of results by key, kept in a JSON-lines file, so that an interrupted run goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        """Read the rows that are already in `path`; of two with one key the later counts."""
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self[row["key"]] = row

    def add(self, key: str, **row: Any) -> dict[str, Any]:
        """Keep a row in memory and on disk."""
        self[key] = {"key": key, **row}
        with self.path.open("a") as file:
            file.write(json.dumps(self[key]) + "\n")
        return self[key]

    def forget(self, network: str) -> None:
        """Drop a network's rows, so that they are measured again."""
        for key in [key for key, row in self.items() if row["network"] == network]:
            del self[key]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines) + "\n"


def write_result(name: str, text: str) -> Path:
    """Write `results/<name>.md` in one step and say where it is."""
    path = RESULTS / f"{name}.md"
    RESULTS.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)
    print(f"written: {path.relative_to(ROOT)}")
    return path


def versions(*packages: str) -> str:
    """'Python 3.11.7, torch 2.14.1, …' for the packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def say(text: str) -> None:
    """One line of progress on standard error; on a terminal it replaces the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that every measuring script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only networks with NAME in them")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for exported networks and partial results")
    parser.add_argument("--fresh", action="store_true", help="measure again what the cache already has")
    return parser


def select(names: Iterable[str], only: Sequence[str]) -> list[str]:
    """Pick those of `names` that contain one of `only`; all where `only` is empty."""
    return [name for name in names if not only or any(part in name for part in only)]
