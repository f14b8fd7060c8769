"""What all commands share: imports when needed, one line an error, exit codes, JSON alone on stdout."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

import onnxcam
from onnxcam.cli import COMMANDS, main, shell
from onnxcam.errors import InputError, ModelError, OnnxcamError, RuntimeUnavailable, UnsupportedGradient

HELP_IMPORTS = """
import sys
from onnxcam.cli import main
main(["--help"], standalone_mode=False)
heavy = {"numpy", "cv2", "onnx", "onnx_graphsurgeon", "onnxruntime", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


class FakeExplainer:
    """Answers as an Explainer does, and keeps what it was given."""

    given: ClassVar[dict[str, object]] = {}

    def __init__(self, model, method="gradcam", **options):
        type(self).given = {"model": model, "method": method, **options}
        self.method = onnxcam.METHODS["gradcam"]
        self.layers = ("/features/conv [1]:x",)
        self.score, self.provider, self.preprocess = "logits", "CPUExecutionProvider", None
        self.assumptions = ["the score is 'logits', before the softmax"]
        self.progress, self.target = options["progress"], options["target"]

    def stream(self, photos):
        for done in range(3):
            if self.progress:
                self.progress("explaining", done, 2)
        yield FakeExplanation(photos)


class FakeExplanation:
    def __init__(self, photos):
        self.samples = np.repeat(np.arange(len(photos)), 2)
        self.targets = np.array([285, 967] * len(photos))
        self.scores = np.array([8.25, np.nan] * len(photos), np.float32)
        self.probabilities = np.array([0.78, 0.18] * len(photos), np.float32)
        self.labels = [f"class name {i}" for i in range(1000)]
        self.warnings = ["the map is 0 everywhere"]

    def record(self, row):
        cls, score = int(self.targets[row]), float(self.scores[row])
        probability = float(self.probabilities[row])
        return {"class": cls, "label": self.labels[cls], "probability": probability, "score": score, "peak": [0, 0]}

    def save(self, folder):
        return [os.path.join(folder, "a_overlay.png")]


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(vars(onnxcam), "Explainer", FakeExplainer)
    return FakeExplainer


def run(*arguments):
    return CliRunner().invoke(main, list(arguments), prog_name="onnxcam")


def failing(error):
    def verb(*_, **__):
        raise error

    return verb


def test_help_names_every_command_and_imports_only_click():
    done = subprocess.run([sys.executable, "-c", HELP_IMPORTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)


def test_help_imports_nothing_heavy():
    code = "import sys, onnxcam.cli; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert not {"numpy", "onnx", "onnxruntime", "cv2", "rich", "google"} & set(loaded)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command):
    result = run(command, "-h")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_version():
    assert run("--version").stdout == f"onnxcam {onnxcam.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "onnxcam", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"onnxcam {onnxcam.__version__}\n"


def test_explain_passes_everything_on(fake):
    options = (
        "--method layercam --layer a --layer b --target Egyptian\\ cat --score s --preprocess tf --labels l.txt "
        "--provider cuda --option alpha=plain --option n=3 --option f=0.5 --option on=true"
    )
    words = [word.replace("\\", "") for word in options.replace("\\ ", "\\\0").split()]
    result = run("explain", "m.onnx", "x/a.png", "b.png", "-o", "out", *[w.replace("\0", " ") for w in words])
    assert (result.exit_code, result.stderr) == (0, "")
    assert fake.given == {
        "model": "m.onnx",
        "method": "layercam",
        "layers": ["a", "b"],
        "target": "Egyptian cat",
        "score": "s",
        "preprocess": "tf",
        "labels": "l.txt",
        "providers": "cuda",
        "options": {"alpha": "plain", "n": 3, "f": 0.5, "on": True},
        "progress": None,
    }


@pytest.mark.parametrize(("text", "target"), [("285", 285), ("-1", -1), ("top5", "top5"), ("tabby cat", "tabby cat")])
def test_a_target_is_an_index_where_it_is_a_number(fake, text, target):
    run("explain", "m.onnx", "a.png", "-o", "out", "--target", text)
    assert fake.given["target"] == target


def test_without_options_everything_is_chosen(fake):
    run("explain", "m.onnx", "a.png", "-o", "out")
    kept = {"layers": "auto", "target": None, "score": "auto", "preprocess": "auto", "labels": "auto", "options": {}}
    assert kept.items() <= fake.given.items()


def test_explain_says_what_it_saw_and_assumed(fake):
    lines = run("explain", "m.onnx", "x/a.png", "b.png", "-o", "out").stdout.splitlines()
    assert lines == [
        "x/a.png  class name 285 (285): probability 0.780, score 8.250",
        "         class name 967 (967): probability 0.180, score nan",
        "b.png    class name 285 (285): probability 0.780, score 8.250",
        "         class name 967 (967): probability 0.180, score nan",
        "layer       /features/conv [1]:x",
        "score       logits",
        "method      gradcam",
        "preprocess  none",
        "provider    CPUExecutionProvider",
        "assumed     the score is 'logits', before the softmax",
        "warning     the map is 0 everywhere",
        f"written     {os.path.join('out', 'a_overlay.png')}",
    ]


def test_json_is_one_document_alone(fake):
    result = run("explain", "m.onnx", "x/a.png", "b.png", "-o", "out", "--json")
    document = json.loads(result.stdout, parse_constant=failing(ValueError("no JSON")))
    rows = [
        {"class": 285, "label": "class name 285", "probability": float(np.float32(0.78)), "score": 8.25},
        {"class": 967, "label": "class name 967", "probability": float(np.float32(0.18)), "score": None},
    ]
    assert document["photos"] == [{"photo": "x/a.png", "rows": rows}, {"photo": "b.png", "rows": rows}]
    assert document["layers"] == ["/features/conv [1]:x"]
    assert document["files"] == [os.path.join("out", "a_overlay.png")]
    assert {"method", "provider", "score", "preprocess", "assumptions", "warnings", "model"} < set(document)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("No class 'cta'. Did you mean 'cat'?"), 2),
        (ModelError("'m.onnx' is not an ONNX model."), 2),
        (UnsupportedGradient("Foo 'n': no gradient."), 1),
        (RuntimeUnavailable("no onnxruntime"), 1),
        (OnnxcamError("several\nlines"), 1),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(monkeypatch, error, code):
    monkeypatch.setitem(vars(onnxcam), "Explainer", failing(error))
    result = run("explain", "m.onnx", "a.png", "-o", "out", "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"Error: {' '.join(str(error).split())}\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), "a.png: Permission denied."),
        (OSError("odd"), "odd."),
        (MemoryError(), "There is not enough memory for this model, or for photos of this size."),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(monkeypatch, error, said):
    monkeypatch.setitem(vars(onnxcam), "Explainer", failing(error))
    result = run("explain", "m.onnx", "a.png", "-o", "out")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {said}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["methods", "--help"], ["methods", "--json"]])
def test_a_full_disk_behind_stdout_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "onnxcam", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device.\n")


def test_an_interrupt_ends_with_130(monkeypatch):
    monkeypatch.setitem(vars(onnxcam), "Explainer", failing(KeyboardInterrupt()))
    result = run("explain", "m.onnx", "a.png", "-o", "out")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize(
    ("arguments", "start", "said"),
    [
        (["explian"], "onnxcam", "No command 'explian'. Did you mean 'explain'?"),
        (["--what"], "onnxcam", "--what"),
        (["explain"], "onnxcam explain", "'MODEL'"),
        (["explain", "m.onnx", "-o", "out"], "onnxcam explain", "'PHOTO...'"),
        (["explain", "m.onnx", "a.png"], "onnxcam explain", "'--output'"),
        (["explain", "--metod"], "onnxcam explain", "--method"),
        (["explain", "--option"], "onnxcam explain", "'--option' requires an argument"),
        (["convert", "m", "--size", "0x0"], "onnxcam convert", "'0x0' is not one of 'input', 'layer'"),
        (["inspect", "m", "n"], "onnxcam inspect", "unexpected extra argument"),
    ],
)
def test_misuse_is_one_line_and_ends_with_2(fake, arguments, start, said):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{start}: ")
    assert said in line
    assert line.endswith((". See --help.", "? See --help."))


@pytest.mark.parametrize("pair", ["alpha", "=3"])
def test_an_option_without_a_value_is_misuse(fake, pair):
    result = run("explain", "m.onnx", "a.png", "-o", "out", "--option", pair)
    assert (result.exit_code, result.stderr) == (2, f"Error: --option '{pair}' is not KEY=VALUE.\n")


def test_nothing_at_all_is_answered_with_the_help(fake):
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "\n  explain " in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGPIPE and no /bin/sh")
@pytest.mark.parametrize("command", ["methods", "methods --json"])
def test_a_reader_that_leaves_is_no_error(command):
    pipe = f"{sys.executable} -m onnxcam {command} | true"
    done = subprocess.run(["/bin/sh", "-c", pipe], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("latin-1", r"größe \udcff \u56f3"), ("utf-8", r"größe \udcff 図"), ("ascii", "größe ? 図")],
)
def test_a_name_that_the_terminal_cannot_show_ends_no_command(encoding, shown):
    code = "from onnxcam.cli import shell; shell.say_anything(); shell.print_facts([('layer', 'größe \\udcff 図')])"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    # click speaks UTF-8 where the stream claims to be ASCII
    assert done.stdout.decode("utf-8" if encoding == "ascii" else encoding) == f"layer  {shown}\n"


def test_a_table_in_a_pipe_is_not_cut():
    name = "/model/[3]:smile: " * 30
    code = f"from onnxcam.cli import shell; shell.print_table(['name', 'op'], [[{name!r}, 'Conv']])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split("  ")[0].strip() == name.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_progress_is_for_a_terminal_only(monkeypatch, capfd):
    import pty  # exists on POSIX only

    with shell.progress() as report:
        assert report is None
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with shell.progress() as report:
            report("explaining", 1, 2)
            report("explaining", 2, 2)
    shown = b""
    with contextlib.suppress(OSError):  # Linux: the other end is closed
        while more := os.read(master, 1 << 16):
            shown += more
    os.close(master)
    assert b"explaining" in shown
    assert b"100%" in shown
    assert capfd.readouterr() == ("", "")


def test_methods_are_those_of_the_registry():
    document = json.loads(run("methods", "--json").stdout)
    assert [row["name"] for row in document] == list(onnxcam.METHODS)
    assert all(set(row) == {"name", "needs", "summary", "paper", "options"} for row in document)
    table = run("methods").stdout
    for method in onnxcam.METHODS.values():
        assert f"\n {method.name} " in table
        assert method.paper in table
        assert all(f"--option {option}=" in table for option in method.options)


def test_sizes_that_nobody_named_are_open():
    dims = ["N", "DynamicDimension.0", "(floor((unk__84-1)/2)+1)", "unk__3", "map:0", None, 7]
    assert shell.shape(dims) == "[N, DynamicDimension.0, ?, ?, ?, ?, 7]"
