"""What an explanation costs in onnxruntime, as ratios to the plain model: quick, and needs no rival.

    python scripts/cost.py MODEL.onnx...      models with a fixed or open batch and one image input of 3×224×224

In one process and in turn, with two threads that do not spin: the plain model twice (how far 'plain, again' is from 1
is how far the others can be trusted); explainable files, all Grad-CAM at the layer that is chosen by itself: one that
returns activation and gradient, one with the heat map, one with the heat maps of the five best classes, one behind a
closed gate; and `onnxcam vjp` from the score to the input. A ratio is the median over the rounds, of wall time and of
processor time, which other work on the machine disturbs less. `scripts/benchmark` does the same beside torch,
pytorch-grad-cam and torchcam: rivals.md.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

import onnxcam

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = {1: 60, 8: 12}
MORE = {"gate closed": {"cam/explain": np.array([False])}}
HEAD = (
    "| network | batch | plain, ms | contender | × plain, wall | × plain, processor |\n|---|---:|---:|---|---:|---:|\n"
)


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def rows(path: Path) -> list[str]:
    found = onnxcam.inspect(path)
    score, image = found.scores[0].tensor, found.inputs[0].name
    contenders = {
        "plain": session(path.read_bytes()),
        "plain, again": session(path.read_bytes()),
        "activation and gradient": session(onnxcam.convert(path).SerializeToString()),
        "heat map": session(onnxcam.convert(path, emit=["heatmap"]).SerializeToString()),
        "five heat maps": session(onnxcam.convert(path, emit=["heatmap"], target="top5").SerializeToString()),
        "gate closed": session(onnxcam.convert(path, emit=["heatmap"], gate=True).SerializeToString()),
        "vjp to the input": session(onnxcam.vjp(path, of=score, wrt=[image]).SerializeToString()),
    }
    return [row for batch in ROUNDS for row in measured(path.parent.name, batch, contenders, image, score)]


def measured(
    name: str, batch: int, contenders: dict[str, onnxruntime.InferenceSession], image: str, score: str
) -> list[str]:
    x = np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)
    seed = np.eye(1000, dtype=np.float32)[np.full(batch, 7)]
    times: dict[str, list[tuple[float, float]]] = {k: [] for k in contenders}
    order = list(contenders)
    for turn in range(2 + ROUNDS[batch]):
        first = turn % len(order)
        for key in order[first:] + order[:first]:
            feeds = {image: x, **MORE.get(key, {}), **({f"seed/{score}": seed} if key.startswith("vjp") else {})}
            wall, processor = time.perf_counter(), time.process_time()
            contenders[key].run(None, feeds)
            times[key].append((time.perf_counter() - wall, time.process_time() - processor))
    plain = times["plain"][2:]
    ms = 1e3 * statistics.median(w for w, _ in plain)
    result = []
    for key in order[1:]:
        ratios = [
            [a / b for a, b in zip(one, base, strict=True)] for one, base in zip(times[key][2:], plain, strict=True)
        ]
        wall, processor = (statistics.median(r[i] for r in ratios) for i in (0, 1))
        result.append(f"| {name} | {batch} | {ms:.1f} | {key} | {wall:.2f} | {processor:.2f} |")
        print(result[-1], flush=True)
    return result


if __name__ == "__main__":
    table = HEAD + "\n".join(row for path in sys.argv[1:] for row in rows(Path(path)))
    about = f"# Cost of an explanation\n\nMade by `scripts/cost.py` with onnxruntime {onnxruntime.__version__}.\n\n"
    method = (__doc__ or "").partition("3×224×224\n\n")[2].strip()
    (ROOT / "scripts/results/benchmark.md").write_text(f"{about}{method}\n\n{table}\n")
