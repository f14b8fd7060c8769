"""`onnxcam.convert`: a model as a file that explains itself."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx

from onnxcam import files
from onnxcam.defaults import find_labels, find_preprocess
from onnxcam.errors import InputError
from onnxcam.explainable import extend
from onnxcam.grad.precision import Arithmetic
from onnxcam.methods import find
from onnxcam.model import ModelLike, Source, destination, write, write_all
from onnxcam.original import put
from onnxcam.plan import DType, Plan, Recipe, Size, default_method, plan, told_method, told_target
from onnxcam.preprocessing import Preprocess
from onnxcam.profiles.check import require
from onnxcam.splitting import split
from onnxcam.targets import Goal, read_targets
from onnxcam.trial import informed
from onnxcam.triton import config


def convert(
    model: ModelLike,
    output: str | os.PathLike[str] | None = None,
    *,
    layers: str | Sequence[str] = "auto",
    target: int | str | Goal | None = None,
    score: str = "auto",
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    emit: str | Sequence[str] | None = None,
    heatmap: DType = "float32",
    size: Size = "input",
    gate: bool = False,
    required: bool = False,
    tail: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    triton: str | os.PathLike[str] | None = None,
    preprocess: str | os.PathLike[str] | Preprocess = "auto",
    labels: str | os.PathLike[str] | Sequence[str] = "auto",
    arithmetic: Arithmetic = "auto",
) -> onnx.ModelProto:
    """Extend a model so that it returns what explains it, and write it to `output` where that is given.

    Inputs: the original's, and `cam/target`: int64 [1] or [N], optional, −1 for the top class; its default is `target`.
    Outputs: the original's in order, then what `emit` names. For each layer `cam/activation/<layer>` and
    `cam/gradient/<layer>`, of the layer's own shape; `cam/score`, the tensor that is explained; `cam/heatmap`, float32
    [N, H, W] in 0..1 (uint8 in 0..255 with `heatmap="uint8"`) at the input's size (the first layer's with
    `size="layer"`), by `method` with its `options`; `cam/class`, int64 [N], the class that is explained.
    With `target="top5"` there is no `cam/target`; heat maps and classes are [N, 5, …], gradients [N, 5, *layer].
    A target that is more than a class, such as "A - B", "box:3" or a `Goal`, has inputs of its own (docs/targets.md),
    and with `cam/score` come `cam/number`, float32 [N], what is explained, and `cam/found/<what>`, float32 [N, …]: the
    class, index, box, certainty or place that was chosen. Several boxes ("top5") make each of them [N, 5, …].
    With `gate`, all of it is computed only where the input `cam/explain`, bool [1], is true (its default), and empty
    where it is not. With `required`, these inputs have no defaults: most runtimes other than onnxruntime for C, C++ and
    Python know no optional inputs. With `tail`, a path, that file computes it, from what `output` returns beside its
    own outputs, and takes by the same names; the model that is returned is the whole in one. Without `emit`, it is what
    `method` needs.
    With `profile`, a name of `onnxcam.check`, nothing is written that would not run there. `triton` is a folder for a
    model repository, in which the model is called as `output` is.
    `arithmetic` is that of `onnxcam.vjp`.
    An explainable file is converted anew from its original. Metadata (`cam.*`) says how it was made, with class names
    and preprocessing.
    Raises InputError for a layer, score, target, method, option, emission, profile, preprocessing or labels that are
    not there or do not fit, for choices that exclude each other, and for a path that cannot be written; ModelError for
    a model that cannot be read, has no feature map on the way to its score, or would not run in the `profile` or in
    Triton; UnsupportedGradient naming every operator on the way without a gradient; OnnxcamError for a full disk.
    """
    for name, flag in (("gate", gate), ("required", required)):
        if not isinstance(flag, bool):
            raise InputError(f"{name} is True or False, not {flag!r}.")
    chosen = plan(model, layers, score, informed)
    emit = [emit] if isinstance(emit, str) else emit
    if emit is not None and not isinstance(emit, Iterable):
        raise InputError(f"What a file emits is named, as in ['heatmap', 'score'], not {emit!r}.")
    emit = emit and list(emit)
    names = find_labels(labels, chosen)
    target = told_target(chosen.told) if target is None else target
    if method is None and "heatmap" in (emit or ()):
        method, made = told_method(chosen.told)
        options = made if options is None else options
    if emit is None:
        emit = ("activation", "gradient") if method is None or find(method).uses == "gradient" else ("activation",)
    wanted, goals = _aimed(target, chosen, names)
    method = default_method(goals) if method is None and "heatmap" in emit else method
    recipe = Recipe(emit, wanted, method, options or {}, heatmap, size, gate, arithmetic, goals, required)
    _check_paths(output, tail, triton, gate, chosen.source)
    extended = extend(chosen, recipe)
    given = {key for key, what in (("cam.classes", labels), ("cam.preprocess", preprocess)) if what != "auto"}
    _describe(extended, names, find_preprocess(preprocess, chosen)[0], given)
    if profile is not None:
        require(extended, profile, chosen.source.proto)
    if output is not None:
        _write(extended, chosen, Path(output), tail, triton)
    return extended


def _write(
    extended: onnx.ModelProto,
    chosen: Plan,
    output: Path,
    tail: str | os.PathLike[str] | None,
    triton: str | os.PathLike[str] | None,
) -> None:
    """The file, or the two of a split; and a model repository, in which the model has the file's name."""
    if tail is not None:
        write_all(dict(zip((output, tail), split(extended, chosen), strict=True)), chosen.source)
    elif triton is not None:
        folder = Path(triton) / output.stem
        text = config(extended, output.stem).encode()
        write_all(
            {output: extended, folder / "1" / "model.onnx": extended, folder / "config.pbtxt": text}, chosen.source
        )
    else:
        write(extended, output, chosen.source)


def _check_paths(
    output: str | os.PathLike[str] | None,
    tail: str | os.PathLike[str] | None,
    triton: str | os.PathLike[str] | None,
    gate: bool,
    source: Source,
) -> None:
    """Raise InputError, before anything is written, for files that do not go together, or cannot be written."""
    if output is None:
        if tail is not None or triton is not None:
            raise InputError("A tail and a model repository come with an output: give that too.")
        return
    place = destination(output, source)
    if triton is not None:
        files.named(triton)
    if tail is None:
        return
    if gate:
        raise InputError("Choose a gate or a tail (--split): the second file is run only where it is wanted.")
    if triton is not None:
        raise InputError("A model repository (--triton) holds one file: write the two of a split (--split) without it.")
    if destination(tail, source) == place:
        raise InputError(f"'{tail}' is to be both files of a split (--split). Give the second one another name.")


def _aimed(
    target: int | str | Goal | None, chosen: Plan, names: Sequence[str] | None
) -> tuple[int | str | None, tuple[Goal, ...]]:
    """A class or its text ("" for what has none, None for the default), and the targets that are more than a class."""
    found = read_targets(target, chosen.score, names)
    if found.each is not None:
        raise InputError("A file has one target, or the best K classes: lists are for `Explainer`.")
    if found.goals:
        return (target if isinstance(target, (int, str, type(None))) else ""), found.goals
    return (f"top{found.best}" if found.best else found.same[0]), ()


def _describe(
    extended: onnx.ModelProto, names: Sequence[str] | None, prepared: Preprocess | None, given: set[str]
) -> None:
    """Class names and preprocessing as metadata; in place of the model's own where others are given."""
    said: dict[str, str] = {}
    if names:
        said["cam.classes"] = json.dumps(list(names), ensure_ascii=False)
    if prepared is not None:
        said["cam.preprocess"] = prepared.to_json()
    present = {p.key for p in extended.metadata_props}
    for key, value in said.items():
        if key in given or key not in present:
            put(extended, key, value)
