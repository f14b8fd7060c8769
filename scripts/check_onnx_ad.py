"""Compare `onnxcam.vjp` with onnx-ad, a second program that differentiates ONNX files, and settle who is right.

    pip install onnx-ad==0.3.0 torch torchvision onnxscript       beside the project
    python scripts/check_onnx_ad.py nodes                         ONNX's node tests, about five minutes
    python scripts/check_onnx_ad.py networks [--only NAME]        whole networks with the batch frozen to 1
    python scripts/check_onnx_ad.py table                         only write the table, of the rows in the cache

Node tests: every float input of every case, each program on its own against central differences in float64 (in
float32 by onnxruntime where ONNX's reference does not compute the case), as the tests do it. 'Only ours' and 'only
theirs' are gradients that one program gives and that hold; a program that gives none refuses, or writes a file that
does not run. 'Cannot run': onnxruntime lacks the operator itself; onnx-ad puts others in its place in the forward pass
too, which we never touch. Inputs on which nothing depends are left out. Two gradients agree when they differ by at most
1e-3 of the larger one in the L2 norm. Where they do not, the function is differenced along the direction in which they
differ, which is their difference: it shows every disagreement at its largest, and the one that predicts what happens
along it is right. At a kink, where the differences to both sides do not agree, both are right when both lie between.

Networks: the gradient of one class score by the image, both programs in float32 in onnxruntime on the same file; the
truth is autograd in float64, and a difference in float64 along the disagreement. Masks of ReLU and MaxPool that
rounding flips make two right programs differ by up to 1e-2; the smooth twin of a network has none.
"""

import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from common import ROOT, Rows, arguments, markdown, relative_error, say, select, versions, write_result

sys.path.insert(0, str(ROOT))

import onnx_ad

import onnxcam
from onnxcam.errors import OnnxcamError
from tests.grad.upstream import Subject, cases, check, narrow, operator_of, our_gradient, session_of

SAME = 1e-3
RIGHT = ("verified", "kink")
ATTENTION = ("vit_b_16", "swin_t", "convnext_tiny")
EXPORTERS = ("torchscript-17", "dynamo")
VERDICTS = ("agree", "only ours", "only theirs", "ours right", "theirs right", "both right", "cannot run", "neither")
COLUMNS = ("operator", *VERDICTS)
LEGEND = """`apart`: the distance of the two as a part of the larger; `ours`, `theirs`: from the truth; `along`: the
slope along their difference as ours says, as theirs says, and in float64; `nodes`: of the plain model, with our
gradient, with theirs; `open batch`: what onnx-ad says to the file as it was exported."""
NETWORK = ("network", "exporter", "verdict", "apart", "ours", "theirs", "along", "nodes", "open batch")


def their_gradient(model: onnx.ModelProto, feeds: Any, of: str, wrt: str, u: np.ndarray) -> np.ndarray:
    """Run the file that onnx-ad makes; whatever goes wrong with it is a refusal."""
    try:
        extended = onnx_ad.reverse(model, inputs=[wrt], outputs=[of], layout="onnx")
        found = session_of(extended).run([f"adj_{wrt}"], {**narrow(feeds), f"adj_{of}": u[..., None].astype("f4")})
    except Exception as error:  # of any kind: it is the answer of a program that is not ours
        raise OnnxcamError(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error
    return np.asarray(found[0])[..., 0]


# ----- node tests -----
class Kept:
    """A program, and the gradient that it gave first for each input: the one at the case's own point."""

    def __init__(self, program: Callable[..., np.ndarray]) -> None:
        """Remember nothing yet."""
        self.program, self.found, self.seed = program, dict[str, np.ndarray](), dict[str, np.ndarray]()

    def __call__(self, model: onnx.ModelProto, feeds: Any, of: str, wrt: str, u: np.ndarray) -> np.ndarray:
        """Get the gradient."""
        found = self.program(model, feeds, of, wrt, u)
        self.found.setdefault(wrt, found)
        self.seed.setdefault(wrt, u)
        return found


def nodes(rows: Rows) -> None:
    """Add the rows of the cases that are missing."""
    used = versions("onnx-ad", "onnx", "onnxruntime", "numpy")
    for name, case in cases().items():
        if f"node {name}" in rows:
            continue
        say(name)
        kept = Kept(our_gradient), Kept(their_gradient)
        subject = Subject.of_case(case)
        inputs = {}
        for ours, theirs in zip(*(check(case, each) for each in kept), strict=True):
            verdict, detail = judged(subject, ours, theirs, *kept)
            inputs[ours.input] = [verdict, detail]
        operator, opset = operator_of(case)
        rows.add(f"node {name}", network="node", operator=operator, opset=opset, inputs=inputs, versions=used)


def judged(subject: Subject, ours: Any, theirs: Any, our: Kept, their: Kept) -> tuple[str, str]:
    """What became of one input in both programs, and the numbers where they contradict each other."""
    answers = [each.found.get(ours.input) for each in (our, their)]
    if ours.outcome == "no forward":
        return ("cannot run" if theirs.outcome in RIGHT else "no forward"), ours.detail
    if "independent" in (ours.outcome, theirs.outcome) and not any(a is not None and a.any() for a in answers):
        return "independent", ""
    if answers[0] is None and answers[1] is None:
        return "neither", ours.detail
    if answers[1] is None:
        return ("only ours" if ours.outcome in RIGHT else "ours wrong"), theirs.detail
    if answers[0] is None:
        return ("only theirs" if theirs.outcome in RIGHT else "theirs wrong"), ours.detail
    if answers[0].shape == answers[1].shape and apart(*answers) <= SAME:
        return ("agree", "") if ours.outcome in RIGHT else ("both wrong", ours.detail)
    if subject.function is None or answers[0].shape != answers[1].shape:
        return by_outcome(ours, theirs)
    return along(subject, ours.input, our.seed[ours.input], *answers)


def by_outcome(ours: Any, theirs: Any) -> tuple[str, str]:
    """Who is right by the check of each on its own."""
    right = (ours.outcome in RIGHT, theirs.outcome in RIGHT)
    verdict = {(1, 1): "both right", (1, 0): "ours right", (0, 1): "theirs right", (0, 0): "both wrong"}[right]
    return verdict, f"ours: {ours.outcome} {ours.detail}; theirs: {theirs.outcome} {theirs.detail}"


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The L2 norm of the difference as a part of the larger one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    endless = ~(np.isfinite(a) & np.isfinite(b))
    if not np.array_equal(a[endless], b[endless], equal_nan=True):
        return np.inf
    a, b = a[~endless], b[~endless]
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), np.linalg.norm(b), 1e-30))


def along(subject: Subject, wrt: str, u: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[str, str]:
    """Who is right along the direction in which two gradients differ."""
    a, b = (np.nan_to_num(each.astype(np.float64)) for each in (ours, theirs))
    v = (a - b) / max(np.linalg.norm(a - b), 1e-30)

    def value(t: float) -> float:
        return float((subject.function({**subject.feeds, wrt: np.asarray(subject.feeds[wrt] + t * v)}) * u).sum())

    h = subject.step
    up, down = (value(h) - value(0)) / h, (value(0) - value(-h)) / h
    ends = sorted((up, down))
    middle, slack = (up + down) / 2, 5e-3 * max(abs(up), abs(down), 1e-1)
    at_kink = ends[1] - ends[0] > 2 * slack
    finite = [np.isfinite(each).all() for each in (ours, theirs)]
    predicted = [float((each * v).sum()) for each in (a, b)]
    right = [
        ok and (ends[0] - slack <= p <= ends[1] + slack if at_kink else abs(p - middle) <= slack)
        for ok, p in zip(finite, predicted, strict=True)
    ]
    verdict = {(1, 1): "both right", (1, 0): "ours right", (0, 1): "theirs right", (0, 0): "both wrong"}[tuple(right)]
    shown = [f"{p:.4g}" if ok else "not finite" for ok, p in zip(finite, predicted, strict=True)]
    truth = f"between {ends[0]:.4g} and {ends[1]:.4g} (a kink)" if at_kink else f"{middle:.4g}"
    return verdict, f"ours {shown[0]}, theirs {shown[1]}, differences {truth}"


# ----- networks -----
def networks(rows: Rows, options: Any) -> None:
    """Add the rows of the networks that are missing; a network that differs gets a row of its smooth twin."""
    import zoo

    for name in select((*zoo.NETWORKS, *ATTENTION), options.only):
        if options.fresh:
            rows.forget(name)
        for exporter in EXPORTERS:
            for label in (name, f"{name}-smooth"):
                key = f"network {label} {exporter}"
                if key not in rows:
                    say(key)
                    rows.add(key, **whole(zoo, label, exporter, options.cache))
                    print(rows[key], flush=True)
                if rows[key]["verdict"] in ("agree", "only ours"):
                    break


def whole(zoo: Any, name: str, exporter: str, cache: Any) -> dict[str, Any]:
    """One network: both gradients, how far apart, how far from the truth."""
    row: dict[str, Any] = {"network": name, "exporter": exporter, "versions": versions("onnx-ad", "torch", "onnx")}
    model = onnx.load(zoo.export(name, exporter, cache))
    row["open batch"] = attempt(lambda: onnx_ad.reverse(model, inputs=["image"], layout="onnx")) or "answered"
    frozen(model)
    oracle = zoo.Oracle(name, cache)
    image = oracle.images(1)
    seed = np.eye(1000, dtype=np.float32)[[7]]
    of = model.graph.output[0].name
    wrt = model.graph.input[0].name
    ours = our_gradient(model, {wrt: image}, of, wrt, seed)
    row["nodes"] = [len(model.graph.node), len(onnxcam.vjp(model, of=of, wrt=[wrt]).graph.node)]
    try:
        theirs = their_gradient(model, {wrt: image}, of, wrt, seed)
        row["nodes"].append(len(onnx_ad.reverse(model, inputs=[wrt], layout="onnx").graph.node))
    except OnnxcamError as error:
        theirs, row["refused"] = None, str(error)
    function = Double(zoo, oracle)
    true = function.gradient(image)
    row["ours"] = float(relative_error(ours, true)[0])
    if theirs is None:
        return row | {"verdict": "only ours"}
    row["theirs"], row["apart"] = float(relative_error(theirs, true)[0]), apart(ours, theirs)
    v = (ours - theirs).astype(np.float64)
    v /= max(np.linalg.norm(v), 1e-30)
    row["along"] = [float((ours * v).sum()), float((theirs * v).sum()), function.slope(image, v)]
    if row["apart"] <= SAME:
        return row | {"verdict": "agree"}
    return row | {"verdict": "ours nearer" if row["ours"] < row["theirs"] else "theirs nearer"}


class Double:
    """A torch network in float64: logit 7 of one image."""

    def __init__(self, zoo: Any, oracle: Any) -> None:
        """Widen the network."""
        self.torch, self.network = zoo.torch, oracle.network.double()

    def gradient(self, image: np.ndarray) -> np.ndarray:
        """By autograd."""
        x = self.torch.from_numpy(image.astype(np.float64)).requires_grad_()
        return self.torch.autograd.grad(self.network(x)[0, 7], x)[0].numpy()

    def slope(self, image: np.ndarray, v: np.ndarray, h: float = 1e-6) -> float:
        """By a central difference along `v`."""
        with self.torch.no_grad():
            ends = [self.network(self.torch.from_numpy(image + s * h * v))[0, 7] for s in (1.0, -1.0)]
        return float(ends[0] - ends[1]) / (2 * h)


def frozen(model: onnx.ModelProto) -> None:
    """Fix the batch to 1, as onnx-ad needs it."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]


def attempt(function: Callable[[], object]) -> str:
    """Why it fails; nothing where it does not."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - of whatever kind
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


# ----- the table -----
def operators(rows: Rows) -> Iterator[list[str]]:
    """One line for each operator with a gradient, and the sums."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows.values():
        if row["network"] == "node":
            counts[row["operator"]].update(verdict for verdict, _ in row["inputs"].values())
    total = sum(counts.values(), Counter())
    for name, count in [*sorted(counts.items()), ("all", total)]:
        if any(count[v] for v in VERDICTS):
            yield [name, *(str(count[v] or "") for v in VERDICTS)]


def contradictions(rows: Rows) -> Iterator[list[str]]:
    """One line for each input on which the programs contradict each other, or one of them is wrong."""
    for row in rows.values():
        for name, (verdict, detail) in row["inputs"].items() if row["network"] == "node" else ():
            if "right" in verdict or "wrong" in verdict or verdict == "only theirs":
                case = row["key"].removeprefix("node test_")
                yield [row["operator"], case, name, verdict, detail.replace("|", "\\|")]


def refusals(rows: Rows, which: str) -> Iterator[list[str]]:
    """Why one has no answer, or both, by operator and reason."""
    reasons: dict[tuple[str, str], int] = Counter()
    for row in rows.values():
        for verdict, detail in row["inputs"].values() if row["network"] == "node" else ():
            if verdict == which:
                reasons[row["operator"], detail[:110].replace("|", "\\|")] += 1
    for (operator, reason), count in sorted(reasons.items()):
        yield [operator, str(count), reason]


def whole_line(row: dict[str, Any]) -> list[str]:
    numbers = [f"{row[k]:.1e}" if k in row else "" for k in ("apart", "ours", "theirs")]
    slopes = "{:.3g}, {:.3g}, {:.3g}".format(*row["along"]) if "along" in row else ""
    verdict = row["verdict"] + (f": {row['refused'][:90]}" if "refused" in row else "")
    counted = " / ".join(map(str, row["nodes"]))
    return [row["network"], row["exporter"], verdict, *numbers, slopes, counted, row["open batch"][:80]]


def summary(rows: Rows) -> str:
    """The counts in a sentence or two."""
    nodes = Counter(v for row in rows.values() if row["network"] == "node" for v, _ in row["inputs"].values())
    whole = Counter(row["verdict"] for row in rows.values() if row["network"] != "node")
    counted = ", ".join(f"{nodes[v]} {v}" for v in (*VERDICTS, "both wrong", "ours wrong", "theirs wrong") if nodes[v])
    files = ", ".join(f"{count} {verdict}" for verdict, count in whole.items())
    return f"Inputs of node tests: {counted}. Files of whole networks: {files}."


def report(rows: Rows) -> str:
    """Format the Markdown report."""
    used = sorted({row["versions"] for row in rows.values()})
    found = [row for key, row in sorted(rows.items()) if row["network"] != "node"]
    parts = ["# Against onnx-ad", "Made by `scripts/check_onnx_ad.py` with:", "\n".join(f"- {each}" for each in used)]
    parts += [__doc__.partition("in the cache\n\n")[2], summary(rows), "## Node tests, inputs by operator"]
    parts += [markdown(COLUMNS, operators(rows)), "## Where they contradict each other, or only theirs answers"]
    parts += [markdown(("operator", "case", "input", "verdict", "along their difference"), contradictions(rows))]
    parts += ["## Networks", LEGEND]
    parts += [markdown(NETWORK, map(whole_line, found)), "## Why onnx-ad has no answer where ours holds"]
    parts += [markdown(("operator", "inputs", "reason"), refusals(rows, "only ours"))]
    parts += ["## Where neither answers", markdown(("operator", "inputs", "reason"), refusals(rows, "neither"))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> int:
    """Measure, write the report; 1 when one of ours is wrong."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("what", choices=["nodes", "networks", "table"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # numpy's, about the infinities that some cases are made of
    rows = Rows(options.cache / "onnx_ad.jsonl")
    if options.what == "nodes":
        for key in [key for key in rows if key.startswith("node ") and options.fresh]:
            del rows[key]
        nodes(rows)
    elif options.what == "networks":
        networks(rows, options)
    write_result("onnx_ad", report(rows))
    bad = {"theirs right", "both wrong", "ours wrong"}
    failures = [row["key"] for row in rows.values() if bad & {v for v, _ in row.get("inputs", {}).values()}]
    print(*failures, sep="\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
