"""Run a bank of cases in every runtime that can be installed, each in a process that may crash; keep the results.

The runtimes live in a folder of their own: a virtual environment with openvino and tract, and node_modules with
onnxruntime-node, onnxruntime-web and playwright (for WebGPU, with a Chromium that is installed: $CHROMIUM).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = ("openvino==2026.4.1", "tract==0.23.9", "numpy>=2")
NODE = ("onnxruntime-node@1.30.0", "onnxruntime-web@1.30.0", "playwright@1")
RUNTIMES = ("cpu", "openvino", "tract", "node", "wasm", "webgpu")
Outcome = tuple[str, str]
PATIENCE = 120


def install(home: Path) -> None:
    """Install the runtimes into `home`, where they are not there yet."""
    home.mkdir(parents=True, exist_ok=True)
    python = home / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PYTHON], check=True)
    if not (home / "node_modules").exists():
        (home / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", *NODE], cwd=home, check=True)  # noqa: S607 - found on PATH


def command(runtime: str, home: Path) -> list[str]:
    bank, results = str(home / "bank"), str(home / f"{runtime}.jsonl")
    if runtime in ("node", "wasm", "webgpu"):
        return ["node", str(HERE / "worker.mjs"), runtime, bank, results, "{start}", str(home / "node_modules")]
    python = sys.executable if runtime == "cpu" else str(home / "venv/bin/python")
    return [python, str(HERE / "worker.py"), runtime, bank, results, "{start}"]


def run(runtime: str, home: Path) -> None:
    """Run what is left of the bank; a case that ends its process is a crash, one that hangs is stopped."""
    results = home / f"{runtime}.jsonl"
    count = len(json.loads((home / "bank/index.json").read_text()))
    while (start := len(read(results))) < count:
        line = [part.format(start=start) if part == "{start}" else part for part in command(runtime, home)]
        ended = _watched(line, results)
        if (number := len(read(results))) < count:
            with results.open("a") as file:
                file.write(json.dumps([number, "crash", ended]) + "\n")


def _watched(line: list[str], results: Path) -> str:
    """Run a worker until it ends, or until no result has come for PATIENCE seconds: how it ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    before = -1
    while True:
        try:
            return f"the process ended with {process.wait(PATIENCE)}"
        except subprocess.TimeoutExpired:
            after = results.stat().st_size if results.exists() else 0
            if after == before:
                process.kill()
                process.wait()
                return "no answer in time"
            before = after


def read(results: Path) -> list[Outcome]:
    """The outcomes so far, in the order of the bank."""
    return list(_read(results))


def _read(results: Path) -> Iterator[Outcome]:
    if results.exists():
        for expected, text in enumerate(results.read_text().splitlines()):
            number, outcome, message = json.loads(text)
            if number != expected:
                raise ValueError(f"{results} lacks case {expected}: delete it, and run again.")
            yield outcome, message


if __name__ == "__main__":
    for name in sys.argv[2:] or RUNTIMES:
        run(name, Path(sys.argv[1]))
