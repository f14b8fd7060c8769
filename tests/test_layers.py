"""The architecture, read from the imports: one direction, one home for each library, no word of CAM in `grad`.

Imports inside functions and for type checking count like all others.
"""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import onnxcam

ROOT = Path(onnxcam.__file__).parent

# Lowest first. A module imports from lines above its own only; the first pattern that matches a module places it.
ORDER = [
    "errors",
    "files | metadata",
    "resample | image",
    "geometry",
    "preprocessing.spec",
    "preprocessing.presets",
    "preprocessing.embedded | preprocessing.guess | preprocessing.huggingface | preprocessing.timm",
    "preprocessing.beside | preprocessing.documents",
    "preprocessing.search",
    "preprocessing",
    "model",
    "original | triton",
    "grad",
    "grad.window",
    "grad.infer",
    "grad.dated | grad.subgraph | grad.sizes",
    "grad.nested | grad.node | grad.whole",
    "grad.lowering",
    "grad.lowering.text",
    "grad.lowering.*",
    "grad.tape",
    "grad.tensor",
    "grad.forward | grad.mask | grad.registry | grad.shapes | grad.recurrence",
    "grad.bind | grad.rows | grad.scatter | grad.precision | grad.sequences | grad.quantized",
    "grad.expand | grad.reverse",
    "grad.prepare",
    "grad.control",
    "grad.loops",
    "grad.spread",
    "grad.rules.convolution",
    "grad.rules.interpolation | grad.rules.pooling",
    "grad.rules.maximum | grad.rules.sampling",
    "grad.rules.*",
    "grad.rules",
    "grad.vjp",
    "profiles",
    "profiles.limits",
    "profiles.table",
    "profiles.check",
    "inspection.parts | inspection.walk | inspection.roles",
    "inspection.guesses",
    "inspection.follow | inspection.forms",
    "inspection.contractions | inspection.movement | inspection.reach",
    "inspection.entry",
    "inspection.towers | inspection.pieces",
    "inspection.detection",
    "inspection.joining",
    "inspection.*",
    "inspection",
    "choice",
    "target",
    "targets.goal",
    "targets.heads",
    "targets.boxes | targets.classes | targets.places | targets.sequences | targets.vectors",
    "targets.text",
    "head | targets",
    "aims",
    "evidence",
    "methods.array | methods.principal | methods.registry",
    "methods.*",
    "methods",
    "feeds | rows",
    "layout | heatmap",
    "traced",
    "plan",
    "drawing",
    "explainable | splitting",
    "run",
    "trial | view",
    "aimed",
    "defaults | report | rescoring",
    "conversion | pipeline",
    "onnxcam",
    "cli.shell",
    "cli.*",
    "cli",
    "__main__",
]

# What must not be known, although it lies further down.
IGNORANT = {
    "grad.[!v]*": "model",  # all but vjp: a graph is differentiated wherever it comes from
    "grad.rules.*": "grad.forward | grad.bind | grad.expand | grad.prepare | grad.reverse",  # a rule knows no engine
    "grad.reverse": "grad.expand | grad.prepare | grad.window",  # the engine knows no operator
    "run | evidence | methods* | view": "model | grad* | inspection* | target | explainable",
    "geometry | resample | image | preprocessing*": "model | grad* | inspection* | target | explainable",
    "evidence | methods* | geometry | resample | image | preprocessing* | view": "run",
    # A command calls public verbs.
    "cli.*": "model | grad* | target | explainable | evidence | defaults | report | pipeline",
}

UPWARD: dict[tuple[str, str], str] = {}

HOMES = {
    "click": "cli | cli.*",
    "cv2": "image | view",
    "google": "model",  # protobuf's error for bytes that are no message
    "numpy": "*",
    "onnx": "model | original | triton | trial | grad.* | profiles.* | inspection* | choice | target* | traced | plan"
    " | drawing | splitting | explainable | conversion",
    "onnx_graphsurgeon": "model | grad.* | inspection* | target | explainable",
    "onnxruntime": "run",
    "rich": "cli.shell",
    "yaml": "preprocessing.documents",
}

GUESTS = {
    ("run", "onnx"): "the doctor writes a model of one node to try each provider",
    ("cli.convert", "onnx"): "the type of what `onnxcam.convert` returns; nothing is imported at run time",
}

WORDS_OF_CAM = re.compile(
    r"(?<!onnx)(?<![a-z])"
    r"(cams?(?![a-z])|grad-?cam|heat ?map|salienc|explain|overlay|photo|picture|logit|classif|label|predict)",
    re.IGNORECASE,
)


def module(path: Path) -> str:
    """`grad.tensor` for onnxcam/grad/tensor.py, `grad` for onnxcam/grad/__init__.py, `onnxcam` for the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "onnxcam"


MODULES = {module(path): path for path in sorted(ROOT.rglob("*.py"))}


def matches(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern.strip()) for pattern in patterns.split("|"))


def level(name: str) -> int:
    found = next((i for i, patterns in enumerate(ORDER) if matches(name, patterns)), None)
    assert found is not None, f"put {name} into ORDER where it belongs"
    return found


def imported(source: str) -> set[str]:
    """Every name that a text imports, in full: `onnxcam.grad.shapes.sum_to`, `onnx.helper`, `cv2`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names} - {"onnxcam"}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "onnxcam":
            names.add(f"onnxcam.{node.attr}")
    return names - {"onnxcam.__version__"}


def own(name: str) -> str:
    """The module of ours that an imported name is in."""
    parts = name.removeprefix("onnxcam.").split(".")
    inside = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((candidate for candidate in inside if candidate in MODULES), "onnxcam")


def ours(name: str) -> set[str]:
    """The modules of ours that a module imports."""
    names = imported(MODULES[name].read_text(encoding="utf-8"))
    return {own(n) for n in names if n.startswith("onnxcam.")} - {name}


def libraries(name: str) -> set[str]:
    """The third-party libraries that a module imports."""
    tops = {n.partition(".")[0] for n in imported(MODULES[name].read_text(encoding="utf-8"))}
    return tops - set(sys.stdlib_module_names) - {"onnxcam"}


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    place = level(name)
    for other in ours(name):
        assert level(other) < place or (name, other) in UPWARD, f"{name} imports {other}, which is not below it"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_does_not_know_what_it_must_not(name):
    for other in ours(name):
        banned = [b for patterns, b in IGNORANT.items() if matches(name, patterns) and matches(other, b)]
        assert not banned, f"{name} imports {other}"


def test_nothing_goes_round_in_a_circle():
    TopologicalSorter({name: ours(name) for name in MODULES}).prepare()


@pytest.mark.parametrize("name", MODULES)
def test_a_library_has_one_home(name):
    for library in libraries(name):
        assert library in HOMES, f"{name} imports {library}, which is no dependency"
        assert matches(name, HOMES[library]) or (name, library) in GUESTS, f"{name} imports {library}"


def test_every_exception_is_used():
    assert {pair for pair in UPWARD if pair[1] in ours(pair[0])} == set(UPWARD)
    assert {pair for pair in GUESTS if pair[1] in libraries(pair[0])} == set(GUESTS)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("grad.")])
def test_differentiation_has_no_word_of_cam(name):
    found = WORDS_OF_CAM.search(MODULES[name].read_text(encoding="utf-8"))
    assert not found, f"{name} speaks of '{found[0]}'"


def test_the_public_names_are_where_they_are_said_to_be():
    declared = {n.rpartition(".") for n in imported(MODULES["onnxcam"].read_text(encoding="utf-8")) if "onnxcam." in n}
    assert {(name, f"onnxcam.{home}") for name, home in onnxcam._HOMES.items()} == {(n, m) for m, _, n in declared}
    assert sorted(onnxcam._HOMES) == sorted(onnxcam.__all__)
    assert all(hasattr(onnxcam, name) for name in onnxcam.__all__)


def test_help_imports_no_library_that_it_does_not_need():
    code = "import sys, onnxcam.cli as c\ntry: c.main(['--help'])\nfinally: print('\\n', *sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(shown.splitlines()[-1].split()) & set(HOMES) - {"click"}


def test_imports_are_found_wherever_they_stand():
    text = """
from onnxcam import run, vjp, __version__
if TYPE_CHECKING:
    from onnx import ModelProto
def f():
    import cv2
    import onnxcam.grad.rules
    return onnxcam.inspect
"""
    names = imported(text)
    third_party = {"onnx.ModelProto", "cv2"}
    assert names == {"onnxcam.run", "onnxcam.vjp", "onnxcam.grad.rules", "onnxcam.inspect"} | third_party
    assert [own(n) for n in sorted(names - third_party)] == ["grad.rules", "onnxcam", "run", "onnxcam"]
    assert own("onnxcam.grad.tensor.op") == "grad.tensor"


@pytest.mark.parametrize("text", ["The Grad-CAM of it", "cam/target", "def explain(): ...", "a heatmap", "CAMs"])
def test_words_of_cam_are_found(text):
    assert WORDS_OF_CAM.search(text)


@pytest.mark.parametrize("text", ["from onnxcam.errors import X", "a camera", "class Tape:", "OnnxcamError"])
def test_other_words_are_not(text):
    assert not WORDS_OF_CAM.search(text)
