"""onnxruntime: which one is installed, which provider runs, sessions that check what they are fed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, ModelError, OnnxcamError, RuntimeUnavailable, unknown

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[np.generic]

_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm")
_INSTALL, _CUDA = "pip install onnxruntime", 'pip install "onnxruntime-gpu[cuda,cudnn]"'
_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64", "tensor(bool)": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, whether it works, and the command that mends it."""

    name: str
    ok: bool
    detail: str
    mend: str | None = None


class Session:
    """A model in onnxruntime; `provider` is the one that runs it. Thread-safe, as onnxruntime's own is."""

    def __init__(self, model: bytes, folder: str = "", providers: str | Sequence[str] = "auto") -> None:
        """Load a serialized model; `folder` is where its external data lies.

        Raises RuntimeUnavailable where onnxruntime or a provider that was asked for is missing, ModelError where
        onnxruntime refuses the model.
        """
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = (
            4  # errors come as exceptions; its warnings are about optional inputs, which are meant
        )
        if folder:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        wanted = _providers(ort, providers)
        self._session = _create(ort, model, options, wanted)
        self.provider = self._session.get_providers()[0]
        if providers != "auto" and self.provider != wanted[0]:
            raise RuntimeUnavailable(f"{wanted[0]} is installed but does not work here. See: onnxcam doctor")
        self.inputs = _described(self._session.get_inputs())
        self.optional = _described(self._session.get_overridable_initializers())
        self.outputs = [o.name for o in self._session.get_outputs()]
        self._errors = _ort_errors(ort)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run the model. Raises InputError for names, shapes or types that do not fit."""
        names = list(outputs or self.outputs)
        checked = {name: self._check(name, array) for name, array in feeds.items()}
        lacking = [name for name in self.inputs if name not in checked]
        if lacking:
            raise InputError(f"The model's input '{lacking[0]}' is not given. It takes: {', '.join(self.inputs)}.")
        try:
            return dict(zip(names, self._session.run(names, checked), strict=True))
        except self._errors as error:
            raise OnnxcamError(f"onnxruntime failed on this input: {_short(error)}") from error

    def _check(self, name: str, array: Array) -> Array:
        known = self.inputs | self.optional
        if name not in known:
            raise InputError(f"The model has no input '{name}'. It takes: {', '.join(known)}.")
        shape, dtype = known[name]
        given = np.asarray(array)
        fits = len(given.shape) == len(shape) and all(
            not isinstance(s, int) or s == d for s, d in zip(shape, given.shape, strict=True)
        )
        if not fits and shape:
            raise InputError(f"Input '{name}' has shape {list(given.shape)}; the model takes {_dims(shape)}.")
        if dtype in _DTYPES.values() and given.dtype != np.dtype(dtype):
            raise InputError(
                f"Input '{name}' is {given.dtype}; the model takes {dtype}. Convert it: array.astype('{dtype}')"
            )
        return given


def runtime() -> ModuleType:
    """The onnxruntime module. Raises RuntimeUnavailable, with the command that mends it, unless one is installed."""
    wheels = installed()
    if len(wheels) > 1:
        raise RuntimeUnavailable(
            f"{' and '.join(wheels)} are both installed and overwrite each other. Run: {_mend(wheels)}"
        )
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise RuntimeUnavailable(f"onnxruntime is not installed. Run: {_INSTALL}, or for CUDA: {_CUDA}") from error
    if not hasattr(ort, "InferenceSession"):
        raise RuntimeUnavailable("onnxruntime is damaged. Run: pip install --force-reinstall --no-deps onnxruntime")
    module: ModuleType = ort
    return module


def installed() -> list[str]:
    """The onnxruntime distributions that are installed; more than one is a conflict."""
    return [w for w in _WHEELS if _version(w) is not None]


def doctor() -> list[Finding]:
    """What runs here: the distribution, its version, and each provider tried on a tiny model."""
    wheels = installed()
    if not wheels:
        return [Finding("onnxruntime", False, "not installed", f"{_INSTALL}, or for CUDA: {_CUDA}")]
    if len(wheels) > 1:
        return [Finding("onnxruntime", False, f"{' and '.join(wheels)} overwrite each other", _mend(wheels))]
    try:
        ort = runtime()
    except RuntimeUnavailable as error:
        return [Finding("onnxruntime", False, str(error), f"pip install --force-reinstall {wheels[0]}")]
    findings = [Finding("onnxruntime", True, f"{wheels[0]} {_version(wheels[0])}")]
    for provider in ort.get_available_providers():
        if provider == "AzureExecutionProvider":
            continue  # a remote service, not something that runs here
        findings.append(_try(provider))
    return findings


def _try(provider: str) -> Finding:
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["": 13]> tiny (float[2] x) => (float[2] y) { y = Relu(x) }'
    mend = f"{_CUDA}, and check the driver with nvidia-smi" if "CUDA" in provider else None
    try:
        session = Session(onnx.parser.parse_model(text).SerializeToString(), providers=provider)
        good = session.run({"x": np.array([-1, 2], np.float32)})["y"].tolist() == [0, 2]
    except OnnxcamError as error:
        return Finding(provider, False, str(error), mend)
    return Finding(provider, good, "works" if good else "gives wrong results", None if good else mend)


def _providers(ort: ModuleType, wanted: str | Sequence[str]) -> list[str]:
    """Full provider names, CPU last; "auto" is CUDA where onnxruntime has it."""
    available = ort.get_available_providers()
    if wanted == "auto":
        names = ["CUDAExecutionProvider"] if "CUDAExecutionProvider" in available else []
    else:
        given = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Sequence) else [wanted]
        names = [_provider(ort, name, available) for name in given]
    if "CUDAExecutionProvider" in names and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    return list(dict.fromkeys([*names, "CPUExecutionProvider"]))


def _provider(ort: ModuleType, name: object, available: Sequence[str]) -> str:
    """The full name. Raises RuntimeUnavailable for one that is not here, InputError for what is a provider nowhere."""
    if not isinstance(name, str):
        raise InputError(f"A provider is named, as 'cpu' or 'cuda' or 'auto', not {name!r}.")
    known: dict[str, str] = {
        p.removesuffix("ExecutionProvider").lower(): p for p in (*ort.get_all_providers(), *available)
    }
    short = name.lower().removesuffix("executionprovider")
    if known.get(short) in available:
        return known[short]
    there = ", ".join(p.removesuffix("ExecutionProvider").lower() for p in available if not p.startswith("Azure"))
    if short not in known:
        raise InputError(f"{unknown('provider', name, known)} This onnxruntime has: {there}.")
    raise RuntimeUnavailable(f"This onnxruntime has no provider '{name}'. It has: {there}. See: onnxcam doctor")


def _create(ort: ModuleType, model: bytes, options: object, providers: list[str]) -> onnxruntime.InferenceSession:
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except _ort_errors(ort) as error:
        raise ModelError(f"onnxruntime {ort.__version__} refuses the model: {_short(error)}") from error


def _ort_errors(ort: ModuleType) -> tuple[type[Exception], ...]:
    state = ort.capi.onnxruntime_pybind11_state
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
        "EPFail",
        "EngineError",
    )
    return tuple(getattr(state, n) for n in names if hasattr(state, n))


def _described(inputs: Sequence[onnxruntime.NodeArg]) -> dict[str, tuple[tuple[object, ...], str]]:
    """Shapes and types by name."""
    return {i.name: (tuple(i.shape), _DTYPES.get(i.type, i.type)) for i in inputs}


def _dims(shape: Sequence[object]) -> str:
    return f"[{', '.join(str(s) if isinstance(s, int) else '?' for s in shape)}]"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _mend(wheels: Sequence[str]) -> str:
    keep = next((w for w in wheels if w != "onnxruntime"), wheels[0])
    return f"pip uninstall -y {' '.join(wheels)} && pip install {keep}"
