"""The README is true: its Python runs, its commands print what it says, its table is the registry's."""

import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam import METHODS, image
from onnxcam.original import PART

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CONSOLE = [text.removeprefix("$ ").partition("\n")[::2] for language, text in BLOCKS if language == "console"]
PYTHON = [text for language, text in BLOCKS if language == "python"]

VERSION, DECIMAL, LEFT_OUT = r"\d+\.\d+\.\d+", r"\d+\.\d{2,}", r"(?m:^)…\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place to write to, with `models` in it as in a checkout."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def alike(written, found):
    """Whether a text is what is written, for any version, decimals to 1 %, and any lines in place of a line `…`."""
    pattern, decimals = "", []
    for part in re.split(f"({VERSION}|{DECIMAL}|{LEFT_OUT})", written):
        if re.fullmatch(DECIMAL, part):
            decimals.append(float(part))
            pattern += "([0-9.]+)"
        elif re.fullmatch(VERSION, part):
            pattern += VERSION
        else:
            pattern += r"(?:.*\n)*" if part == "…\n" else re.escape(part)
    match = re.fullmatch(pattern, found)
    return bool(match) and [float(g) for g in match.groups()] == pytest.approx(decimals, rel=1e-2)


def run(command):
    """Run `onnxcam …`; gives what it prints and its exit code."""
    program, *arguments = shlex.split(command)
    assert program == "onnxcam"
    done = subprocess.run(
        [sys.executable, "-m", "onnxcam", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode(), done.returncode


def methods_table():
    """The methods as Markdown; to update the README, paste it from the message of the failing test."""
    rows = ["| method | needs | |", "|---|---|---|"]
    for m in METHODS.values():
        name, _, what = m.summary.partition(": ")
        values = {key: ", ".join(map(str, o.choices or (o.default,))) for key, o in m.options.items()}
        options = "".join(f" Option `{key}`: {listed}." for key, listed in values.items())
        rows.append(f"| `{m.name}` | {m.uses} | [{name}]({m.paper}): {what}{options} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(("command", "written"), CONSOLE, ids=[command for command, _ in CONSOLE])
def test_a_command_prints_what_the_readme_says(folder, command, written):
    found, code = run(command)
    assert alike(written, found), found
    assert code == (2 if written.startswith("Error") else 0)


def test_the_python_prints_what_the_readme_says(folder):
    names = {}
    for code in PYTHON:
        written = [line.removeprefix("# ") for line in code.splitlines() if line.startswith("# ")]
        with contextlib.redirect_stdout(io.StringIO()) as found:
            exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - the README's own text
        assert alike("".join(f"{line}\n" for line in written), found.getvalue()), found.getvalue()
    assert (folder / "out" / "cat.json").exists()
    assert (folder / "explainable.onnx").exists()


def test_the_table_of_methods_is_the_registry():
    assert methods_table() in README, f"The table of methods in README.md has to be:\n\n{methods_table()}"


def test_the_explainable_file_has_what_the_readme_lists():
    original = ROOT / "models" / "efficientnet-lite0.onnx"
    emit = ["activation", "gradient", "score", "heatmap", "class"]
    model = onnxcam.convert(original, method="gradcam++", options={"alpha": "plain"}, emit=emit, gate=True)
    section = README.partition("## The explainable file")[2].partition("\n## ")[0]
    listed = {name.replace("<layer>", "head/Clip") for name in re.findall(r"`(cam[./][^`]+)`", section)}
    before = onnx.load(original)
    given = {p.key for p in before.metadata_props} - {"cam.classes", "cam.preprocess"}
    keys = {p.key for p in model.metadata_props} - given
    values = {v.name for v in (*model.graph.input, *model.graph.output)} - {"image", "logits"}
    assert listed == keys | values | {PART}


def test_the_picture_is_what_the_script_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("make_pictures")
    drawn, kept = script.draw().astype(int), image.read(script.PICTURE).astype(int)
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).mean() < 1, "run scripts/make_pictures.py"


@pytest.mark.parametrize("target", [t for t in re.findall(r"\]\(([^)]+)\)", README) if "://" not in t])
def test_a_link_leads_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize(
    ("written", "found", "same"),
    [
        ("a 0.786\n", "a 0.787\n", True),
        ("a 0.786\n", "a 0.886\n", False),
        ("runtime 1.2.3\n", "runtime 1.22.0\n", True),
        ("a\n…\nb\n", "a\nx\ny\nb\n", True),
        ("a\n…\nb\n", "a\nx\ny\nc\n", False),
        ("a\n", "a\nb\n", False),
        ("[N, 3]\n", "[N, 4]\n", False),
    ],
)
def test_alike(written, found, same):
    assert alike(written, found) == same
