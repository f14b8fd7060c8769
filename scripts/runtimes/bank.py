"""Small models that try operators one way each, with inputs and the outputs due: what runtimes are probed with.

They come from three places: ONNX's node tests, as they are and with all inputs but the first made constant; the rows of
tests/grad/cases, for every opset in which an operator changed; and the node tests again with float32 replaced by each
other type that the operator's specification allows. The outputs due are ONNX's own, or those of its reference, or
those of onnxruntime's CPU provider where the reference fails; where neither knows, a case only has to run.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

ROOT = Path(__file__).resolve().parents[2]
Arrays = dict[str, np.ndarray]

# What a runtime's JavaScript interface can carry; types of fewer than 8 bits, float8 and strings are left out.
FLOATS, INTS = ("float32", "float64", "float16"), ("int8", "int16", "int32", "int64")
NAMES = {np.dtype(name): name for name in (*FLOATS, *INTS, *(f"u{name}" for name in INTS), "bool")}
# Their results are drawn at random, or their inputs have to be drawn for them.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
SIZES = {"ConstantOfShape", "Range"}  # their inputs are sizes, as constant as those of the file
DECIDING = {"dtype", "to", "value", "body", "then_branch"}  # attributes that say what type an output has
OLDEST = 7  # the first opset that onnxruntime runs
OTHERS = ("float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool")


@dataclass(frozen=True)
class Case:
    """A model, its inputs, and the outputs due: empty where only running counts."""

    name: str
    model: onnx.ModelProto
    inputs: Arrays
    outputs: Arrays = field(default_factory=dict)


def cases() -> Iterator[Case]:
    """Every case; names are unique."""
    tests = list(_node_tests())
    for case in tests:
        yield case
        if fixed := _fixed(case):
            yield fixed
    yield from _rows()
    yield from _casts()
    seen: set[tuple[str, int]] = set()
    for case in tests:
        key = case.model.graph.node[0].op_type, _version(case.model)
        if len(case.model.graph.node) == 1 and key not in seen and not case.model.graph.node[0].domain:
            retyped = [r for r in (_retyped(_fixed(case) or case, other) for other in OTHERS) if r]
            if retyped:
                seen.add(key)
            yield from retyped
    for case in tests:
        yield from _aged(case)


def write(folder: Path) -> int:
    """Write the bank: NUMBER.onnx, one file of raw tensors, and an index. Returns the number of cases."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    with (folder / "tensors.bin").open("wb") as tensors:
        for case in cases():
            if not all(a.dtype in NAMES for a in (*case.inputs.values(), *case.outputs.values())):
                continue
            number = len(index)
            case.model.ir_version = max(case.model.ir_version, 8)  # from 4 on constants need not be inputs too
            (folder / f"{number}.onnx").write_bytes(case.model.SerializeToString())
            row = {"name": case.name}
            for kind in ("inputs", "outputs"):
                row[kind] = []
                for name, array in getattr(case, kind).items():
                    tensors.write(b"\0" * (-tensors.tell() % 8))
                    entry = [name, NAMES[array.dtype], list(array.shape), tensors.tell(), array.nbytes]
                    row[kind].append(entry)
                    tensors.write(np.ascontiguousarray(array).tobytes())
            row["random"] = any(_is_random(n) for n in case.model.graph.node)
            index.append(row)
    (folder / "index.json").write_text(json.dumps(index))
    return len(index)


def _is_random(node: onnx.NodeProto) -> bool:
    """Whether another result may be right too: drawn at random, or in no order."""
    unsorted = node.op_type in ("TopK", "Unique") and any(a.name == "sorted" and not a.i for a in node.attribute)
    return node.op_type in RANDOM or unsorted or (node.op_type == "Dropout" and len(node.input) > 2)


def _node_tests() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    for test in collect_testcases(None):
        if test.model is None or not test.data_sets or test.name.endswith("_expanded") or "_expanded_" in test.name:
            continue
        _raise(test.model)
        inputs, outputs = test.data_sets[0]
        graph = test.model.graph
        if not all(isinstance(v, (np.ndarray, np.generic)) for v in (*inputs, *outputs)):
            continue
        names = [v.name for v in graph.input], [v.name for v in graph.output]
        yield Case(
            test.name.removeprefix("test_"),
            test.model,
            {n: np.asarray(v) for n, v in zip(names[0], inputs, strict=False)},
            {n: np.asarray(v) for n, v in zip(names[1], outputs, strict=False)},
        )


def _raise(model: onnx.ModelProto) -> None:
    """Let a test of an opset that nobody reads any more be one of the oldest that is read."""
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, OLDEST)


def _fixed(case: Case) -> Case | None:
    """The case with every input but the first as an initializer, as weights, axes and shapes are in a model."""
    names = list(case.inputs)[case.model.graph.node[0].op_type not in SIZES :]
    if not names or len(case.model.graph.node) > 1:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [v for v in model.graph.input if v.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(case.inputs[n], n) for n in names)
    return Case(
        f"{case.name}, constants", model, {n: v for n, v in case.inputs.items() if n not in names}, case.outputs
    )


def _rows() -> Iterator[Case]:
    sys.path.insert(0, str(ROOT))
    from tests.grad.cases import CASES

    for row in CASES:
        feeds = {
            k: v.astype(np.float32) if v.dtype.kind == "f" else v
            for k, v in row.feeds(np.random.default_rng(0)).items()
        }
        changed = {s.since_version for s in defs.get_all_schemas_with_history() if (s.name, s.domain) == (row.op, "")}
        for opset in [v for i, v in enumerate(row.opsets()) if not i or v in changed]:
            model = row.model(opset, TensorProto.FLOAT, False)
            given = {v.name: feeds[v.name] for v in model.graph.input if v.name in feeds}
            due, other = _computed(model, given, row.forward == "reference"), _computed(model, given, trusted=False)
            agreed = all(n in other and np.allclose(v, other[n], 1e-2, 1e-2, equal_nan=True) for n, v in due.items())
            yield Case(f"{row}, opset {opset}", model, given, due if agreed or not other else {})


def _computed(model: onnx.ModelProto, feeds: Arrays, trusted: bool = True) -> Arrays:
    names = [v.name for v in model.graph.output]
    if trusted:
        try:
            results = ReferenceEvaluator(model).run(None, feeds)
            return {n: np.asarray(v) for n, v in zip(names, results, strict=True)}
        except Exception:  # noqa: BLE001, S110  # the reference lacks it: onnxruntime is asked
            pass
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(None, feeds), strict=True))
    except Exception:  # noqa: BLE001  # nobody knows what is due: running is what counts
        return {}


def _version(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def _retyped(case: Case, other: str) -> Case | None:
    """The case with another type for float32, or for the first input's, where all that share it may have it."""
    node = case.model.graph.node[0]
    try:
        schema = defs.get_schema(node.op_type, _version(case.model), "")
    except defs.SchemaError:
        return None
    if any(a.name in DECIDING for a in node.attribute) or node.op_type.endswith("Window"):
        return None
    dtype = np.dtype(other)
    onnx_type = helper.np_dtype_to_tensor_dtype(dtype)
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    types = {v.name: v.type.tensor_type.elem_type for v in case.model.graph.input}
    types |= {t.name: t.data_type for t in case.model.graph.initializer}
    types |= {v.name: v.type.tensor_type.elem_type for v in case.model.graph.output}
    formals = [*_formals(node.input, schema.inputs), *_formals(node.output, schema.outputs)]
    base = TensorProto.FLOAT if TensorProto.FLOAT in types.values() else types.get(node.input[0] if node.input else "")
    changed = {formal.type_str for name, formal in formals if name and types.get(name) == base}
    spelled = f"tensor({TensorProto.DataType.Name(onnx_type).lower()})"
    if not changed or onnx_type == base or not all(spelled in allowed.get(f, ()) for f in changed):
        return None
    moved = {name for name, formal in formals if formal.type_str in changed}
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value in (*model.graph.input, *model.graph.output):
        if value.name in moved:
            value.type.tensor_type.elem_type = onnx_type
    for tensor in model.graph.initializer:
        if tensor.name in moved:
            tensor.CopyFrom(numpy_helper.from_array(_cast(numpy_helper.to_array(tensor), dtype), tensor.name))
    feeds = {n: _cast(v, dtype) if n in moved else v for n, v in case.inputs.items()}
    if not _valid(model):
        return None
    due = _computed(model, feeds)
    declared = {v.name: helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.output}
    right = all(np.asarray(value).dtype == declared[name] for name, value in due.items())  # the reference may forget it
    return Case(f"{case.name}, {other}", model, feeds, due if right else {})


def _casts() -> Iterator[Case]:
    """From each type to each other: ONNX's own tests of Cast are of the newest opset only."""
    for a, b in product(NAMES.values(), NAMES.values()):
        given = np.array([0, 1, 2, 100]).astype(a)
        types = [helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (a, b)]
        for opset in (13, 19):
            node = helper.make_node("Cast", ["x"], ["y"], to=types[1])
            x, y = (helper.make_tensor_value_info(n, t, [4]) for n, t in zip("xy", types, strict=True))
            graph = helper.make_graph([node], "case", [x], [y])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
            yield Case(f"Cast from {a} to {b}, opset {opset}", model, {"x": given}, {"y": given.astype(b)})


def _valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _aged(case: Case) -> Iterator[Case]:
    """The case for each earlier version of its operator that takes the same inputs and attributes."""
    nodes = case.model.graph.node
    if len(nodes) != 1 or nodes[0].domain:
        return
    versions = {
        s.since_version for s in defs.get_all_schemas_with_history() if (s.name, s.domain) == (nodes[0].op_type, "")
    }
    own = defs.get_schema(nodes[0].op_type, _version(case.model), "").since_version
    for version in sorted({max(v, OLDEST) for v in versions}):
        if defs.get_schema(nodes[0].op_type, version, "").since_version == own:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        model.opset_import[0].version = version
        model.ir_version = min(model.ir_version, 8 if version < 21 else 10)
        if not _valid(model):
            continue
        due = _computed(model, case.inputs, trusted=False)  # the reference takes a new operator for the old
        if due:  # else the meaning of an attribute has changed
            old = Case(f"{case.name}, opset {version}", model, case.inputs, due)
            yield _fixed(old) or old


def _formals(
    names: list[str], formals: list[defs.OpSchema.FormalParameter]
) -> Iterator[tuple[str, defs.OpSchema.FormalParameter]]:
    for i, name in enumerate(names):
        yield name, formals[min(i, len(formals) - 1)]


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "u":
        array = np.abs(array)
    return (array > 0) if dtype.kind == "b" else array.astype(dtype)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(write(Path(sys.argv[1])), "cases")
