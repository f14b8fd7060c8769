"""Run the cases of a bank in one runtime: `worker.py RUNTIME BANK RESULTS START` appends a line of JSON for each.

A line is [number, outcome, message]; outcomes are "ok", "load" and "run" (where it failed), "wrong" (another result).
It runs in the environment of that runtime, which has neither onnxcam nor, for some, onnx.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Runner = Callable[[Arrays], list[np.ndarray | None]]

TOLERANCE = 2e-3  # some runtimes approximate: this is about doing the operator, not about the last digit


def cpu(path: str) -> Runner:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


@cache
def _core() -> Any:
    import openvino as ov

    return ov.Core()


def openvino(path: str) -> Runner:
    model = _core().read_model(path)
    compiled = _core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})

    def run(feeds: Arrays) -> list[np.ndarray | None]:
        # An input that is handed on unchanged loses its name.
        left = iter(n for n in feeds if not any(n in port.get_names() for port in compiled.inputs))
        given = {
            port: feeds[next(iter(port.get_names() & feeds.keys()), None) or next(left)] for port in compiled.inputs
        }
        found = compiled(given)
        return [found[port] for port in compiled.outputs]

    return run


def tract(path: str) -> Runner:
    import tract as engine

    loaded = engine.onnx().load(path)
    names = [loaded.input_name(i) for i in range(loaded.input_count())]
    runnable = loaded.into_model().into_runnable()

    def run(feeds: Arrays) -> list[np.ndarray | None]:
        return [array(t) for t in runnable.run([feeds[name] for name in names])]

    def array(tensor: engine.Tensor) -> np.ndarray | None:
        try:
            return tensor.to_numpy()
        except engine.TractError as error:
            if "TDim" not in str(error):  # a size, which its interface does not hand out
                raise
            return None

    return run


def compare(found: list[np.ndarray | None], due: list[np.ndarray]) -> str:
    for f, d in zip(found, due, strict=False):
        if f is None:
            continue
        f = np.asarray(f)
        if f.size != d.size or (f.shape != d.shape and f.size != 1):
            return f"shape {list(f.shape)} instead of {list(d.shape)}"
        a, b = f.astype(np.float64).ravel(), d.astype(np.float64).ravel()
        loose = TOLERANCE if d.dtype.kind != "f" or d.dtype.itemsize > 2 else 2e-2
        if not np.allclose(a, b, loose, loose, equal_nan=True):
            return f"{np.abs(a - b).max():.3g} off"
    return ""


def attempt(open_: Callable[[str], Runner], path: str, row: dict, tensors: np.ndarray) -> tuple[str, str]:
    def arrays(kind: str) -> Arrays:
        return {
            name: tensors[at : at + size].view(dtype).reshape(shape).copy()
            for name, dtype, shape, at, size in row[kind]
        }

    try:
        run = open_(path)
    except Exception as error:  # noqa: BLE001  # whatever a runtime raises is its answer
        return "load", str(error)
    try:
        found = run(arrays("inputs"))
        difference = "" if row["random"] else compare(list(found), list(arrays("outputs").values()))
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises is its answer
        return "run", str(error)
    return ("wrong", difference) if difference else ("ok", "")


def main(runtime: str, bank: Path, results: Path, start: int) -> None:
    index = json.loads((bank / "index.json").read_text())
    tensors = np.memmap(bank / "tensors.bin", np.uint8, "r")
    open_ = {"cpu": cpu, "openvino": openvino, "tract": tract}[runtime]
    with results.open("a") as file:
        for number in range(start, len(index)):
            print(number, file=sys.stderr, flush=True)
            outcome, message = attempt(open_, str(bank / f"{number}.onnx"), index[number], tensors)
            file.write(json.dumps([number, outcome, " ".join(message.split())[:400]]) + "\n")
            file.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
