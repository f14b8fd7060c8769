"""`onnxcam convert`: the model and what explains it, in one ONNX file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from onnxcam.cli import shell

if TYPE_CHECKING:
    from onnx import ModelProto


@click.command()
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", required=True, help="The explainable model.")
@click.option("--layer", "layers", metavar="NAME", multiple=True, help="Feature map; repeatable. Default: the last.")
@click.option(
    "--target",
    metavar="TARGET",
    help="A class by index or name, top5, 'A - B', p:A, box:3, A@10,20,90,80, like:FILE; "
    "docs/targets.md has all. Default: the top class, the best box.",
)
@click.option("--score", metavar="NAME", default="auto", help="Tensor with the scores. Default: before the softmax.")
@click.option(
    "--emit",
    metavar="NAMES",
    default="activation,gradient,heatmap",
    show_default=True,
    help="What it returns: activation, gradient, heatmap, class, score.",
)
@click.option("--method", metavar="NAME", help="What draws the heat map, see `onnxcam methods`. Default: gradcam.")
@click.option(
    "--option", "options", metavar="KEY=VALUE", multiple=True, help="Option of the method, see `onnxcam methods`."
)
@click.option(
    "--heatmap", type=click.Choice(["float32", "uint8"]), default="float32", show_default=True, help="Its type."
)
@click.option(
    "--size", type=click.Choice(["input", "layer"]), default="input", show_default=True, help="Size of the heat map."
)
@click.option("--gate", is_flag=True, help="Compute it only where the input cam/explain is true.")
@click.option("--required", is_flag=True, help="cam/target has to be given: most runtimes know no optional inputs.")
@click.option(
    "--split", "tail", metavar="FILE", help="A second file for what explains, run on what the first one returns."
)
@click.option("--for", "profile", metavar="PROFILE", help="Where it has to run, see `onnxcam check --help`.")
@click.option("--arithmetic", type=click.Choice(["auto", "float32"]), default="auto", help="Of gradients in float16.")
@click.option("--triton", metavar="DIR", help="Also a model repository for Triton Inference Server.")
@click.option(
    "--preprocess", metavar="NAME|FILE", default="auto", help="Written into the file: a preset, or a JSON or YAML file."
)
@click.option("--labels", metavar="FILE", default="auto", help="Class names, one a line, written into the file.")
@shell.as_json
def convert(model: str, output: str, as_json: bool, **choices: Any) -> None:
    """Write MODEL as a file that explains itself."""
    import onnxcam

    choices["emit"] = [name.strip() for name in choices["emit"].split(",") if name.strip()]
    choices["layers"] = list(choices["layers"]) or "auto"
    choices["target"] = shell.target(choices["target"])
    choices["options"] = shell.options(choices["options"])
    made = onnxcam.convert(model, output, **choices)
    record = _record(model, output, choices["tail"], made)
    shell.print_json(record) if as_json else _print(record)


def _record(model: str, output: str, tail: str | None, made: ModelProto) -> dict[str, Any]:
    """The file, or both files of a split, and how much larger than the original they are."""
    files = [_file(output, made)] if tail is None else [_file(path, _read(path)) for path in (output, tail)]
    size = sum(os.path.getsize(file["output"]) for file in files)
    return {
        "model": model,
        **files[0],
        "tail": files[1] if tail is not None else None,
        "bytes": size,
        "growth": size / os.path.getsize(model) - 1,
    }


def _read(path: str) -> ModelProto:
    import onnx

    return onnx.load(path, load_external_data=False)


def _file(path: str, model: ModelProto) -> dict[str, Any]:
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer if not tensor.name.startswith("cam/")}  # of IR 3
    inputs = [value for value in graph.input if value.name not in constants]
    outputs = [_tensor(value) for value in graph.output]
    return {"output": path, "inputs": [_tensor(value) for value in inputs], "outputs": outputs}


def _tensor(value: Any) -> dict[str, object]:
    dims = value.type.tensor_type.shape.dim
    return {
        "name": value.name,
        "shape": [d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in dims],
    }


def _print(record: dict[str, Any]) -> None:
    def lines(tensors: Iterable[dict[str, Any]]) -> list[str]:
        return [f"{tensor['name']}  {shell.shape(tensor['shape'])}" for tensor in tensors]

    facts: list[tuple[str, str | list[str]]] = []
    for file in filter(None, (record, record["tail"])):
        facts += [("written", file["output"]), ("inputs", lines(file["inputs"])), ("outputs", lines(file["outputs"]))]
    grown = f"{record['bytes'] / 1e6:.2f} MB, {record['growth']:.2%} more than the original"
    shell.print_facts([*facts, ("size", grown)])
