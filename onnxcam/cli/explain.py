"""`onnxcam explain`: maps of photos, as pictures, arrays and records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from onnxcam.cli import shell

if TYPE_CHECKING:
    from onnxcam import Explainer


@click.command()
@click.argument("model")
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", required=True, help="Folder for pictures, arrays and records.")
@click.option("--method", default="auto", help="See `onnxcam methods`. Default: the file's own, or gradcam.")
@click.option(
    "--layer", "layers", metavar="NAME", multiple=True, help="Feature map; several are fused. Default: the last."
)
@click.option(
    "--target",
    metavar="TARGET",
    help="A class by index or name, top5, 'A - B', p:A, box:3, A@10,20,90,80, like:FILE; "
    "docs/targets.md has all. Default: the top class, the best box.",
)
@click.option("--score", metavar="NAME", default="auto", help="Tensor with the scores. Default: before the softmax.")
@click.option(
    "--preprocess", metavar="NAME|FILE", default="auto", help="A preset such as imagenet, or a JSON or YAML file."
)
@click.option("--labels", metavar="FILE", default="auto", help="Class names, one a line. Default: the model's own.")
@click.option("--provider", default="auto", show_default=True, help="cpu, cuda or another that onnxruntime has.")
@click.option(
    "--option", "options", metavar="KEY=VALUE", multiple=True, help="Option of the method, see `onnxcam methods`."
)
@shell.as_json
def explain(
    model: str,
    photos: tuple[str, ...],
    output: str,
    method: str,
    layers: tuple[str, ...],
    target: str | None,
    score: str,
    preprocess: str,
    labels: str,
    provider: str,
    options: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what in each PHOTO speaks for a class."""
    from onnxcam import Explainer

    with shell.progress() as report:
        explainer = Explainer(
            model,
            method,
            layers=list(layers) or "auto",
            target=shell.target(target),
            score=score,
            preprocess=preprocess,
            labels=labels,
            providers=provider,
            options=shell.options(options),
            progress=report,
        )
        record = _record(model, photos, explainer, output)
    described = explainer.preprocess.describe() if explainer.preprocess else "none"
    shell.print_json(record) if as_json else _print(record, described)


def _record(model: str, photos: tuple[str, ...], explainer: Explainer, output: str) -> dict[str, object]:
    """Explain and save a batch at a time, and keep only what is printed."""
    explained: list[dict[str, Any]] = [{"photo": photo, "rows": []} for photo in photos]
    warnings, files = [], []
    for explanation in explainer.stream(photos):
        for row, sample in enumerate(explanation.samples):
            kept = {k: v for k, v in explanation.record(row).items() if k != "peak"}
            explained[sample]["rows"].append(kept)
        warnings += explanation.warnings
        files += [str(file) for file in explanation.save(output)]
        del explanation  # before the next batch is made
    return {
        "model": model,
        "photos": explained,
        "target": explainer.target,
        "method": explainer.method.name,
        "layers": list(explainer.layers),
        "score": explainer.score,
        "preprocess": explainer.preprocess and json.loads(explainer.preprocess.to_json()),
        "provider": explainer.provider,
        "assumptions": list(explainer.assumptions),
        "warnings": warnings,
        "files": files,
    }


def _print(record: dict[str, Any], described: str) -> None:
    shell.print_facts((photo["photo"], [_line(row) for row in photo["rows"]]) for photo in record["photos"])
    shell.print_facts(
        [
            ("layers" if len(record["layers"]) > 1 else "layer", record["layers"]),
            ("score", record["score"]),
            ("target", [] if record["target"] is None else str(record["target"])),
            ("method", record["method"]),
            ("preprocess", described),
            ("provider", record["provider"]),
            ("assumed", record["assumptions"]),
            ("warning", record["warnings"]),
            ("written", record["files"]),
        ]
    )


def _line(row: dict[str, Any]) -> str:
    name = f"class {row['class']}" if row["label"] is None else f"{row['label']} ({row['class']})"
    name = "what was asked for" if row["class"] < 0 else name
    if "box" in row:
        name += f", box {row['index']:.0f} at {', '.join(f'{v:.0f}' for v in row['box'])}"
    probability = "" if row["probability"] is None else f"probability {row['probability']:.3f}, "
    return f"{name}: {probability}score {row['score']:.3f}"
