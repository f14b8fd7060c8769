"""Heat maps of explainable files in OpenVINO or tract: `heatmaps.py RUNTIME JOBS RESULTS`.

JOBS is a JSON list of {file, image, shape, output, scores}: all but `shape` are files, those of arrays of float32.
`output` is to hold the heat map, `scores` the model's first output. RESULTS gets a line of JSON for each job: {} or
{error}. It runs in the environment of that runtime, which has no onnxcam.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def in_openvino(file: str, image: np.ndarray, **hints: str) -> Pair:
    import openvino

    results = openvino.compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": 1, **hints})([image])
    return results[0], results["cam/heatmap"]


def in_tract(file: str, image: np.ndarray) -> Pair:
    import tract

    model = tract.onnx().load(file)
    sizes = str(model.input_fact(0)).split(",")[:-1]
    planned = model.into_model()
    planned.transform(tract.SetSymbols({s: n for s, n in zip(sizes, image.shape, strict=True) if not s.isdecimal()}))
    scores, *_, heatmap = planned.into_runnable().run([image])
    return scores.to_numpy(), heatmap.to_numpy()


RUNTIMES: dict[str, Callable[[str, np.ndarray], Pair]] = {
    "openvino": partial(in_openvino, INFERENCE_PRECISION_HINT="f32"),
    "openvino-default": in_openvino,
    "tract": in_tract,
}


def main() -> None:
    runtime, jobs, results = sys.argv[1:]
    for job in json.loads(Path(jobs).read_text()):
        image = np.fromfile(job["image"], np.float32).reshape(job["shape"])
        said = {}
        try:
            for name, array in zip(("scores", "output"), RUNTIMES[runtime](job["file"], image), strict=True):
                array.astype(np.float32).tofile(job[name])
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything, and that is a result here
            said["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        with Path(results).open("a") as file:
            file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
