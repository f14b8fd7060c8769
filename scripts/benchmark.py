"""What an explanation costs: ratios to the plain model in onnxruntime, measured in one process, in turn.

    scripts/benchmark                          everything, in an environment of its own
    python scripts/benchmark.py --only resnet  where torch, grad-cam and torchcam are installed

Three groups of contenders, each with the plain model among them: ours, other projects' Grad-CAM at the same layer,
and the gradient of the image. Every round runs each contender of a group once, in an order that turns round from one
round to the next, after a pause in which the thread pools of the others stop spinning. A ratio is the median over the
rounds of a contender's time by the plain model's time of the same round. 'plain, again' is a second session of the
plain model: how far it is from 1 is how far the other ratios can be trusted. All use the same number of threads;
torch is run by its own rules (eager, float32).

Times are wall time. On two cores a pool that has slept at times wakes on its caller's core, and one contender then
takes up to 1.3 times as long for all of its rounds; processor time does not see it. What our own files cost is better
read in benchmark.md, made by `scripts/cost.py`, which has both and no torch in the process.
"""

import contextlib
import gc
import io
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytorch_grad_cam
import torch
import torchcam.methods
import zoo
from common import ROOT, arguments, markdown, say, select, smooth_images, versions, write_result

import onnxcam

LAYERS = {"resnet50": "layer4", "mobilenet_v2": "features", "densenet121": "relu", "efficientnet_b0": "features"}
BACK_TO_THE_INPUT = {
    "resnet50": 2.4,
    "mobilenet_v2": 3.2,
    "efficientnet_b0": 3.5,
    "densenet121": 2.6,
    "convnext_tiny": 2.8,
    "vit_b_16": 2.5,
}  # at most, for one picture
BATCHES = (1, 8)
EXPORTER = "torchscript-17"
PAUSE = 0.01
HEADING = "# Cost beside torch, pytorch-grad-cam and torchcam"
COLUMNS = ("network", "batch", "contender", "ms", "× plain", "at most")

Contenders = dict[str, Callable[[], object]]


def session(model: bytes | onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A pool that spins after its run takes the processor from the next contender.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def in_turn(contenders: Contenders, rounds: int) -> dict[str, list[float]]:
    """Time every contender `rounds` times, in seconds, after three rounds that do not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    for number in range(rounds + 3):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            time.sleep(PAUSE)
            start = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - start)
        gc.collect()
    gc.enable()
    return {name: each[3:] for name, each in times.items()}


def ours(path: Path, images: np.ndarray, threads: int) -> Contenders:
    """Make the plain model a second time, the explainable file in a session, and a whole call of an Explainer."""
    feed = {"image": images}
    again = session(path.read_bytes(), threads)
    explainable = session(onnxcam.convert(path), threads)
    explainer = onnxcam.Explainer(path, providers="cpu")
    return {
        "plain, again": lambda: again.run(None, feed),
        "explainable file": lambda: explainable.run(None, feed),
        "Explainer, whole call": lambda: explainer(images),
    }


def rivals(name: str, images: np.ndarray, cache: Path, close: contextlib.ExitStack) -> Contenders:
    """Make Grad-CAM of pytorch-grad-cam and of torchcam at the same layer; each call a forward pass and a map."""
    tensor = torch.from_numpy(images)
    network, second = zoo.load(name, cache), zoo.load(name, cache)
    layer = network.model.get_submodule(LAYERS[name])
    grad_cam = close.enter_context(pytorch_grad_cam.GradCAM(network, [layer]))
    torch_cam = close.enter_context(torchcam.methods.GradCAM(second, target_layer=f"model.{LAYERS[name]}"))

    def with_torchcam() -> object:
        logits = second(tensor)
        return torch_cam(logits.argmax(dim=1).tolist(), logits)

    return {"pytorch-grad-cam": lambda: grad_cam(tensor, None), "torchcam": with_torchcam}


def to_the_input(name: str, path: Path, images: np.ndarray, threads: int, cache: Path) -> Contenders:
    """Make the gradient of a class score with respect to the image, ours and torch's (weights need no gradient)."""
    model = onnxcam.vjp(path, of="logits", wrt=["image"])
    gradient = session(model, threads)
    seed = np.eye(1000, dtype=np.float32)[np.zeros(len(images), int)]
    feed = {"image": images, "seed/logits": seed}
    network = zoo.load(name, cache).requires_grad_(False)
    tensor = torch.from_numpy(images).requires_grad_()

    def forward_and_backward() -> object:
        return torch.autograd.grad(network(tensor)[:, 0].sum(), tensor)

    return {"vjp to the input": lambda: gradient.run(None, feed), "torch, forward and backward": forward_and_backward}


def network_rows(name: str, batch: int, rounds: int, threads: int, cache: Path) -> list[list[str]]:
    """Time one network at one batch size: our contenders, then the rivals, then the gradients of the image."""
    path = zoo.export(name, EXPORTER, cache)
    images = smooth_images(batch, zoo.size_of(name), seed=2)
    running = session(path.read_bytes(), threads)
    plain: Contenders = {"plain": lambda: running.run(None, {"image": images})}
    times = in_turn(plain | ours(path, images, threads), rounds)
    rows = [row(name, batch, contender, times) for contender in times]
    with contextlib.ExitStack() as close:
        others = rivals(name, images, cache, close) if name in LAYERS else {}
        for contenders in (others, to_the_input(name, path, images, threads, cache)):
            times = in_turn(plain | contenders, max(rounds // 3, 5)) if contenders else {}
            rows += [row(name, batch, contender, times) for contender in times if contender != "plain"]
    return rows


def row(name: str, batch: int, contender: str, times: dict[str, list[float]]) -> list[str]:
    """Format one contender's median time, its ratio to the plain model, and what the ratio may be."""
    ratio = statistics.median(a / b for a, b in zip(times[contender], times["plain"], strict=True))
    limits = {"explainable file": 1.05, "vjp to the input": BACK_TO_THE_INPUT[name] if batch == 1 else None}
    limit = limits.get(contender)
    milliseconds = 1e3 * statistics.median(times[contender])
    return [name, str(batch), contender, f"{milliseconds:.1f}", f"{ratio:.2f}", f"{limit:.2f}" if limit else ""]


def rewriting(cache: Path) -> list[list[str]]:
    """Time `convert` of ResNet-50, reading and writing included, and see how much the file grows."""
    source = zoo.export("resnet50", EXPORTER, cache)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "explainable.onnx"
        seconds = repeated(lambda: onnxcam.convert(source, target), 5)
        growth = target.stat().st_size / source.stat().st_size - 1
    return [["rewriting ResNet-50", f"{seconds:.2f} s", "0.5 s"], ["its file grows by", f"{100 * growth:.3f} %", "1 %"]]


def command_line() -> list[list[str]]:
    """Time `onnxcam --help` and the demonstration's `explain` as processes of their own."""
    model, photo = ROOT / "models" / "efficientnet-lite0.onnx", ROOT / "models" / "cat.png"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def call(*words: str) -> None:
        command = [sys.executable, "-m", "onnxcam", *words]
        subprocess.run(command, check=True, capture_output=True, env=environment)

    with tempfile.TemporaryDirectory() as folder:
        explain = repeated(lambda: call("explain", str(model), str(photo), "-o", folder), 5)
    shown = repeated(lambda: call("--help"), 9)
    return [
        ["`onnxcam --help`", f"{shown:.2f} s", "0.3 s"],
        ["`onnxcam explain`, one photo", f"{explain:.2f} s", "3 s"],
    ]


def repeated(call: Callable[[], object], times: int) -> float:
    """Time a call: the median, in seconds, after one call that does not count."""
    call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def processor() -> str:
    """Name the processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> int:
    """Measure, print, and write the report when nothing was left out."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="rounds at batch 1, for ours; fewer for the rest")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for onnxruntime and torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in select(BACK_TO_THE_INPUT, options.only):
        for batch in BATCHES:
            say(f"{name}, batch {batch}")
            with contextlib.redirect_stderr(io.StringIO()):
                new = network_rows(name, batch, max(options.rounds // batch, 11), options.threads, options.cache)
            print(*("  ".join(row) for row in new), sep="\n", flush=True)
            rows += new
    single = rewriting(options.cache) + command_line()
    print(*("  ".join(row) for row in single), sep="\n")
    if not options.only:
        packages = versions("onnxruntime", "torch", "torchvision", "grad-cam", "torchcam", "numpy")
        made = f"Made by `scripts/benchmark` on {processor()}, {options.threads} threads, with {packages}."
        method = __doc__.partition("are installed\n\n")[2].strip()
        tables = [markdown(COLUMNS, rows).strip(), markdown(("what", "measured", "at most"), single)]
        write_result("rivals", "\n\n".join([HEADING, made, method, *tables]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
