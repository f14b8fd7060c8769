"""Hold what `onnxcam.triton` writes against Triton: its schema, its server, and its ONNX Runtime backend's conditions.

    python scripts/check_triton.py MODEL.onnx...      explainable files; without any, the frozen texts in tests/golden

Three checks of each config.pbtxt, for whole batches and for requests that the server joins:
1. The schema: the text is parsed by the `model_config.proto` that ships in the PyPI package `tritonclient`.
2. The server: the `tritonserver` that ships in the PyPI package `nvidia-pytriton` (Linux, x86-64) loads the repository.
   It has no ONNX Runtime backend, so a good configuration ends at 'unable to find backend library', after all of the
   server's own validation. That it would complain is shown with a configuration spoilt on purpose.
3. The backend: the conditions of its ValidateInputs and ValidateOutputs, on what onnxruntime says of the model.
   https://github.com/triton-inference-server/onnxruntime_backend/blob/main/src/onnxruntime.cc

Both packages are installed into build/triton at the first run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOME = ROOT / "build" / "triton"
PACKAGES = ("tritonclient[grpc]==2.73.0", "nvidia-pytriton==0.7.0")
ACCEPTED = "unable to find backend library for backend 'onnxruntime'"
PARSE = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
parsed = text_format.Parse(sys.stdin.read(), model_config_pb2.ModelConfig())
print(json_format.MessageToJson(parsed, preserving_proto_field_name=True))
"""


def install(home: Path) -> None:
    """Make an environment with Triton's schema and server, where there is none yet."""
    if not (home / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        # pytriton itself is not used, and what it depends on is not needed.
        pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, PACKAGES[0]], check=True)
        subprocess.run([*pip, "--no-deps", PACKAGES[1]], check=True)


def parse(text: str, home: Path) -> dict:
    """Parse by Triton's own schema, in the environment that has it."""
    import json

    found = subprocess.run([home / "bin" / "python", "-c", PARSE], input=text, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr.strip().splitlines()[-1]
    return json.loads(found.stdout)


def serve(text: str, home: Path) -> str:
    """What the server says of a repository with this configuration: the reason why it does not load the model."""
    packages = next(home.glob("lib/python3*/site-packages"))
    server = packages / "pytriton" / "tritonserver"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "m" / "1").mkdir(parents=True)
        (Path(folder) / "m" / "1" / "model.onnx").write_bytes(b"")
        (Path(folder) / "m" / "config.pbtxt").write_text(text)
        program = server / "bin" / "tritonserver"
        program.chmod(0o755)
        options = [
            "--disable-auto-complete-config",
            "--allow-grpc=false",
            "--allow-http=false",
            "--allow-metrics=false",
        ]
        command = [program, f"--model-repository={folder}", f"--backend-directory={server / 'backends'}", *options]
        environment = os.environ | {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    log = said.stdout + said.stderr
    found = re.search(r"Poll failed for model directory 'm': ([^\n]*)", log) or re.search(
        r"Invalid argument: ([^|]*)", log
    )
    return found[1].strip(' "') if found else log[-500:]


def validate(config: dict, model: Path) -> None:
    """Hold the backend's conditions against the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batch = config.get("max_batch_size", 0)
    required = {x.name: x for x in session.get_inputs()}
    optional = {x.name: x for x in session.get_overridable_initializers()}
    listed = config["input"]
    count = sum(not each.get("optional", False) for each in listed)
    assert count == len(required), f"configuration expects {count} inputs, model provides {len(required)}"
    assert not (batch and any(each.get("optional") for each in listed)), "optional inputs with batching"
    for each in listed:
        compare(each, (required | optional)[each["name"]], batch, exact=False)
    outputs = {x.name: x for x in session.get_outputs()}
    for each in config["output"]:
        compare(each, outputs[each["name"]], batch, exact=True)


def compare(given: dict, tensor: object, batch: int, *, exact: bool) -> None:
    """Hold type and sizes of one tensor against the model's."""
    names = {"float": "FP32", "float16": "FP16", "double": "FP64"}
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    assert given["data_type"] == f"TYPE_{names.get(kind, kind.upper())}", f"the type of {tensor.name}"
    model = [size if isinstance(size, int) else -1 for size in tensor.shape]
    sizes = [int(size) for size in (given["reshape"].get("shape") if "reshape" in given else given["dims"]) or []]
    sizes = [-1, *sizes] if batch else sizes
    same = len(sizes) == len(model) and all(
        a == b or (not exact and b == -1) for a, b in zip(sizes, model, strict=True)
    )
    assert same or not model, f"{tensor.name}: model {model}, configuration {sizes}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold the configurations of models against Triton.")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--home", type=Path, default=HOME, help="where Triton's packages are, or come to be")
    options = parser.parse_args()
    install(options.home)
    texts: list[tuple[str, str, Path | None]] = []
    for path in options.models:
        import onnx

        from onnxcam.triton import config

        proto = onnx.load(path, load_external_data=False)
        texts += [(f"{path.name}, batch {n}", config(proto, "m", max_batch_size=n), path) for n in (0, 8)]
    if not texts:
        golden = sorted((ROOT / "tests" / "golden").glob("triton-*.pbtxt"))
        texts = [(path.name, path.read_text().replace('"classifier"', '"m"'), None) for path in golden]
    for name, text, model in texts:
        parsed = parse(text, options.home)
        said = serve(text, options.home)
        assert ACCEPTED in said, f"{name}: {said}"
        spoilt = serve(
            text.replace("dims: [ 3,", "dims: [ 0,").replace("dims: [ -1, 3,", "dims: [ 0, 3,"), options.home
        )
        assert ACCEPTED not in spoilt, f"{name}: the server does not look"
        if model:
            validate(parsed, model)
        backend = " and backend" if model else ""
        print(f"{name}: schema, server{backend} take it; with a size of 0, the server says: {spoilt}")


if __name__ == "__main__":
    main()
