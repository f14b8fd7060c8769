"""Measure the memory that a gradient to the input takes: `onnxcam.vjp` in onnxruntime beside torch, batch 1.

    pip install torch torchvision onnxscript        beside the project
    python scripts/memory.py [--only NAME]

Every contender runs in a process of its own, with two threads: it imports what it needs, loads the network, and
computes twice. The numbers are the kernel's high-water mark of the resident set. 'Peak' and 'running' are less what is
resident after the imports: from there to the end, loading included, and in the second run alone, with weights and
caches. 'In all' is the second run with the imports. The last two columns are ratios to torch's forward and backward
pass. Torch computes as for an explanation: in evaluation mode, parameters frozen, the
gradient of one logit by the image; its plain forward pass keeps nothing for a gradient. The files are made before, in
another process, and have an open batch.

Onnxruntime keeps a copy of each weight in the form that the operator wants which reads it, and a backward pass reads
weights transposed or turned: after loading, the extended ViT takes 2.8 times its weights. Torch reads one copy.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from common import Rows, arguments, markdown, say, select, versions, write_result

NETWORKS = ("resnet50", "mobilenet_v2", "vit_b_16", "convnext_tiny")
EXPORTER = "torchscript-17"
CONTENDERS = ("onnxruntime, plain", "onnxruntime, vjp", "torch, forward", "torch, forward and backward")
COLUMNS = ("network", "weights", "contender", "peak", "running", "in all", "running, × torch", "in all, × torch")
MB = 1024


def make(name: str, cache: Path) -> None:
    """Write the plain file and the one with the gradient."""
    import zoo

    import onnxcam

    path = zoo.export(name, EXPORTER, cache)
    found = onnxcam.inspect(path)
    extended = onnxcam.vjp(path, of=found.scores[0].tensor, wrt=[found.inputs[0].name])
    path.with_suffix(".vjp.onnx").write_bytes(extended.SerializeToString())


def by_onnxruntime(path: Path) -> Callable[[], Callable[[], object]]:
    import numpy as np
    import onnxruntime as ort

    def load() -> Callable[[], object]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        image, *seed = session.get_inputs()
        feeds = {image.name: np.zeros((1, 3, 224, 224), np.float32)}
        feeds |= {each.name: np.eye(1000, dtype=np.float32)[[7]] for each in seed}
        outputs = [session.get_outputs()[-1].name]
        return lambda: session.run(outputs, feeds)

    return load


def by_torch(name: str, cache: Path, backward: bool) -> Callable[[], Callable[[], object]]:
    import torch
    import zoo

    torch.set_num_threads(2)

    def load() -> Callable[[], object]:
        network = zoo.load(name, cache).eval().requires_grad_(False)
        image = torch.zeros(1, 3, 224, 224, requires_grad=backward)

        def run() -> object:
            with torch.set_grad_enabled(backward):
                score = network(image)[0, 7]
                return torch.autograd.grad(score, image)[0] if backward else score

        return run

    return load


def measure(contender: str, name: str, cache: Path) -> dict[str, float]:
    """Measure in this process, which has done nothing else: MB above what the imports took."""
    path = cache / name / f"{EXPORTER}.onnx"
    backward = contender == CONTENDERS[-1]
    file = path.with_suffix(".vjp.onnx") if "vjp" in contender else path
    load = by_torch(name, cache, backward) if "torch" in contender else by_onnxruntime(file)
    imports = resident("VmRSS")
    run = load()
    run()
    peak = resident("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark
    run()
    running = resident("VmHWM")
    return {"imports": imports, "peak": max(peak, running) - imports, "running": running - imports}


def resident(which: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / MB for line in lines if line.startswith(which))


def apart(*words: str) -> str:
    """Run this script in a process of its own and return what it says."""
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def lines(rows: Rows, name: str) -> list[list[str]]:
    found = {contender: rows[f"{name} {contender}"] for contender in CONTENDERS}
    torch = found[CONTENDERS[-1]]
    return [
        [
            name, f"{row['weights']:.0f}", contender, f"{row['peak']:.0f}", f"{row['running']:.0f}",
            f"{row['running'] + row['imports']:.0f}", f"{row['running'] / torch['running']:.2f}",
            f"{(row['running'] + row['imports']) / (torch['running'] + torch['imports']):.2f}",
        ]
        for contender, row in found.items()
    ]  # fmt: skip


def report(rows: Rows) -> str:
    """Format the Markdown report, MB throughout."""
    names = [name for name in NETWORKS if all(f"{name} {contender}" in rows for contender in CONTENDERS)]
    used = "\n".join(f"- {each}" for each in sorted({row["versions"] for row in rows.values()}))
    method = (__doc__ or "").partition("[--only NAME]\n\n")[2]
    table = markdown(COLUMNS, [line for name in names for line in lines(rows, name)])
    parts = ["# Memory of a gradient to the input", "Made by `scripts/memory.py` with:", used, method, "In MB:", table]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> int:
    """Measure, write the report."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=2, metavar=("CONTENDER", "NETWORK"), help="measure one in this process")
    options = parser.parse_args()
    if options.child:
        contender, name = options.child
        made = make(name, options.cache) if contender == "make" else measure(contender, name, options.cache)
        print(json.dumps(made))
        return 0
    rows = Rows(options.cache / "memory.jsonl")
    for name in select(NETWORKS, options.only):
        if options.fresh:
            rows.forget(name)
        if all(f"{name} {contender}" in rows for contender in CONTENDERS):
            continue
        apart("--cache", str(options.cache), "--child", "make", name)
        weights = (options.cache / name / f"{EXPORTER}.onnx").stat().st_size / MB**2
        for contender in CONTENDERS:
            say(f"{name}, {contender}")
            found = json.loads(apart("--cache", str(options.cache), "--child", contender, name))
            used = versions("torch", "torchvision", "onnxruntime", "onnx")
            row = rows.add(f"{name} {contender}", network=name, weights=weights, versions=used, **found)
            print(row["key"], {k: round(v) for k, v in found.items()}, flush=True)
    write_result("memory", report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
