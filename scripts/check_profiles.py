"""Hold `onnxcam.check` against what runtimes really do: `python scripts/check_profiles.py [--home FOLDER] [RUNTIME …]`.

It installs openvino, tract, onnxruntime-node and onnxruntime-web into build/profiles (Chromium is found by $CHROMIUM),
writes the bank of scripts/runtimes (about 7,000 models of one operator), runs it in every runtime, and compares: a case
that `check` passed has to run, with the right result. What is wrong is printed, the table is results/profiles.md.
What has been run is kept; delete FOLDER/RUNTIME.jsonl to run it again. All of it takes about half an hour.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnx
from common import markdown, write_result

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "runtimes")]

import bank  # noqa: E402 - the path comes first
import probe  # noqa: E402 - the path comes first

from onnxcam.profiles.check import check  # noqa: E402 - the path comes first

PROFILE = {"cpu": "cpu", "openvino": "openvino", "tract": "tract", "node": "cpu", "wasm": "web", "webgpu": "web"}
TITLE = {
    "cpu": "ONNX Runtime, CPU",
    "openvino": "OpenVINO, CPU, f32",
    "tract": "tract",
    "node": "onnxruntime-node, CPU",
    "wasm": "onnxruntime-web, wasm in Node",
    "webgpu": "onnxruntime-web, WebGPU in Chromium (SwiftShader)",
}
NEWEST = {"node": 26}  # the profile is about a newer release, which reads newer opsets
ORDER = ("fails", "differs", "falls back")
# What no look at a file can tell, by the beginning of a case's name; and what one release lacks.
KNOWN = {
    "Slice(5x6,r,r": "starts and ends far outside the axis, given at run time",
    "GatherND(2x3x4,r": "negative indices, given at run time",
    "ScatterND(4x3,r": "negative indices, given at run time",
    "ScatterND(2x3x4,r": "the same",
    "onehot_out_of_range_indices": "indices out of range, given at run time",
    "onehot_negative_indices": "negative indices, given at run time",
    "top_k_same_values": "which of several equal elements comes first",
    "nonmaxsuppression_iou_threshold_boundary": "an overlap equal to the threshold",
    "averagepool_2d_ceil_last_window": "the file declares a shape by a later rule of ONNX than the runtime's",
    "AveragePool(2x3x6x5)[kernel_shape=[2,2],strides=[3,3],pads=[1,1,1,1],ceil_mode=1]": "the same",
}
LATER = {  # in onnxruntime 1.32, which the profile is about, and not in 1.30, which onnxruntime-node is
    "attention_": "version 25 of Attention",
    "where_example, constants": "kernels for int8 and uint32",
    "bitshift_": "kernels for uint16",
    "STFT(2x19x2,c,6)[onesided=0]": "the right result",
}
COLUMNS = (
    "runtime",
    "version",
    "profile",
    "cases",
    "run",
    "passed",
    "passed, but fail",
    "excepted",
    "refused, but run",
    "fall back unseen",
)


@dataclass(frozen=True)
class Compared:
    """One case: what `check` said, the worst of it, and what came of the case."""

    name: str
    runtime: str
    said: str  # "", or a Severity
    why: str
    outcome: str
    message: str

    @property
    def ran(self) -> bool:
        """Whether it ran, with the right result."""
        return self.outcome in ("ok", "elsewhere")

    @property
    def known(self) -> bool:
        """Whether no look at the file can tell."""
        known = [*KNOWN, *(LATER if self.runtime == "node" else ())]
        return any(self.name.partition(" ")[2].startswith(k) for k in known)

    @property
    def false_ok(self) -> bool:
        """Whether it was passed, and failed."""
        if self.outcome == "wrong":
            return self.said not in ("fails", "differs")
        return self.said != "fails" and not self.ran

    @property
    def false_fail(self) -> bool:
        """Whether it was refused, and ran."""
        return self.said == "fails" and self.ran

    @property
    def unseen(self) -> bool:
        """Whether it fell back without a word."""
        return not self.said and self.outcome == "elsewhere"


def compared(runtime: str, home: Path) -> Iterator[Compared]:
    index = json.loads((home / "bank/index.json").read_text())
    for number, (outcome, message) in enumerate(probe.read(home / f"{runtime}.jsonl")):
        if "requires f16 but the device does not" in message:
            continue  # a software adapter has no half precision; real ones do
        model = onnx.load(home / f"bank/{number}.onnx")
        opset = next((o.version for o in model.opset_import if not o.domain), bank.OLDEST)
        if opset < bank.OLDEST or opset > NEWEST.get(runtime, opset):
            continue
        try:
            report = check(model, PROFILE[runtime])
        except Exception as error:  # of any kind: name the case that shows it
            raise SystemExit(f"check() stumbles over case {number}, {index[number]['name']}: {error!r}") from error
        worst = min(report.findings, key=lambda f: ORDER.index(f.severity), default=None)
        said, why = (worst.severity, str(worst)) if worst else ("", "")
        yield Compared(f"{number} {index[number]['name']}", runtime, said, why, outcome, message)


def row(runtime: str, cases: list[Compared], version: str) -> list[str]:
    counts = Counter(
        passed=sum(c.said != "fails" for c in cases),
        false_ok=sum(c.false_ok and not c.known for c in cases),
        known=sum(c.false_ok and c.known for c in cases),
        false_fail=sum(c.false_fail for c in cases),
        unseen=sum(c.unseen for c in cases),
        ran=sum(c.ran for c in cases),
    )
    numbers = [len(cases), counts["ran"], counts["passed"], counts["false_ok"], counts["known"], counts["false_fail"]]
    unseen = str(counts["unseen"]) if runtime == "webgpu" else "–"
    return [TITLE[runtime], version, PROFILE[runtime], *map(str, numbers), unseen]


def installed(runtime: str, home: Path) -> str:
    if runtime == "cpu":
        import onnxruntime

        return str(onnxruntime.__version__)
    if runtime in ("openvino", "tract"):
        return next(p.partition("==")[2] for p in probe.PYTHON if p.startswith(runtime))
    package = "onnxruntime-node" if runtime == "node" else "onnxruntime-web"
    return str(json.loads((home / f"node_modules/{package}/package.json").read_text())["version"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runtimes", nargs="*", metavar="RUNTIME", help=", ".join(probe.RUNTIMES))
    parser.add_argument(
        "--home", type=Path, default=ROOT / "build/profiles", help="Where runtimes and results are kept."
    )
    parser.add_argument("--show", choices=["ok", "fail", "unseen"], default="ok", help="Which disagreements to print.")
    chosen = parser.parse_args()
    chosen.runtimes = chosen.runtimes or list(probe.RUNTIMES)
    warnings.simplefilter("ignore")
    probe.install(chosen.home)
    if not (chosen.home / "bank/index.json").exists():
        print(bank.write(chosen.home / "bank"), "cases")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda r: probe.run(r, chosen.home), chosen.runtimes))
    rows, wrong = [], 0
    for runtime in chosen.runtimes:
        cases = list(compared(runtime, chosen.home))
        for case in cases:
            if {"ok": case.false_ok and not case.known, "fail": case.false_fail, "unseen": case.unseen}[chosen.show]:
                print(
                    f"{runtime} {case.name}: {case.said or 'passed'} {case.why} | {case.outcome} {case.message[:200]}"
                )
        wrong += sum(c.false_ok and not c.known for c in cases)
        rows.append(row(runtime, cases, installed(runtime, chosen.home)))
    print(markdown(COLUMNS, rows))
    if len(rows) == len(probe.RUNTIMES):
        excepted = "".join(f"- `{name}`: {why}\n" for name, why in {**KNOWN, **LATER}.items())
        write_result(
            "profiles", f"{HEAD}{markdown(COLUMNS, rows)}\nExcepted, by the beginning of their names:\n\n{excepted}"
        )
    return bool(wrong)


HEAD = """# What `onnxcam check` says, and what runtimes do

Each case is a small model, mostly of one operator: ONNX's node tests, as they are and with constant inputs, for earlier
opsets and other types, and the rows of this project's own gradient tests. *Run*: the runtime loads and runs it, with
the result that is due. *Passed*: `onnxcam check` finds nothing that fails. *Passed, but fail* has to be 0: it
does not run, or gives another result without `check` having said that it differs. *Excepted*: the same, where no look
at the file can tell. *Refused, but run*: a table is stricter than its runtime. *Fall back unseen*: passed without a
word, but WebGPU leaves it to the processor. Made by `scripts/check_profiles.py`.

"""

if __name__ == "__main__":
    sys.exit(main())
