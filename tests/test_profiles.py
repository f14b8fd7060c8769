"""Profiles: the tables can be read, and `check` says of small models what the runtimes are known to do with them."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import TensorProto, defs, helper, numpy_helper, parser

import onnxcam
from onnxcam.cli import main
from onnxcam.errors import InputError, ModelError
from onnxcam.profiles import PROFILES
from onnxcam.profiles.check import Finding, check, require
from onnxcam.profiles.limits import Limit
from onnxcam.profiles.table import profile
from tests.builders import DEMO, model

POOL = "g (float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y) { y%s = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"


def said(proto: onnx.ModelProto, where: str) -> list[tuple[str, str, str]]:
    """Severity, operator and reason of each finding."""
    return [(f.severity, f.operator, f.why) for f in check(proto, where).findings]


def worst(proto: onnx.ModelProto, where: str) -> str:
    """The first of fails, differs, falls back that is among the findings; "" without one."""
    found = {f.severity for f in check(proto, where).findings}
    return next((s for s in ("fails", "differs", "falls back") if s in found), "")


# ----- tables -----
@pytest.mark.parametrize("name", [*PROFILES, "wasm"])
def test_every_table_can_be_read_and_names_its_sources(name):
    table = profile(name)
    assert table.title
    assert table.sources
    assert bool(table.members) != bool(table.rows)
    assert set(table.members) <= set(PROFILES)
    assert table.rest is None or profile(table.rest).rows


@pytest.mark.parametrize("name", [name for name in (*PROFILES, "wasm") if name != "portable"])
def test_tables_speak_of_operators_types_and_attributes_that_exist(name):
    table = profile(name)
    history = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, []).append(schema)
    old = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}  # of the time before ONNX 1.0
    for (domain, op), rows in table.rows.items():
        assert domain or op in history or op in old
        schemas = [] if domain else history.get(op, [])
        for row in rows:
            about = [s for s in schemas if row.has(s.since_version)]
            parameters = {p.type_str for s in about for p in (*s.inputs, *s.outputs)}
            assert about or domain or op in old, f"{op} has no such version"
            assert set(row.types) <= parameters, f"{op} has no type parameter {set(row.types) - parameters}"
    for op, limits in table.limits.items():
        names = {n for s in history[op] for n in (*s.attributes, *(p.name for p in (*s.inputs, *s.outputs)))}
        for _, limit in limits:
            words = set(limit.words if limit.rule in ("absent", "constant", "given") else limit.words[:1])
            unknown = {w for w in words if not w.isdigit()} - names
            assert not unknown, f"{op} has no {unknown}"


def test_the_cpu_table_is_what_the_runtime_has_registered():
    """For the versions of the operators that files have most; the script that writes the table looks at all."""
    table = profile("cpu")
    for op, version, dtype, runs in [
        ("Conv", 11, TensorProto.FLOAT, True),
        ("Conv", 11, TensorProto.DOUBLE, False),
        ("Equal", 7, TensorProto.FLOAT, True),
        ("Where", 16, TensorProto.FLOAT, True),
        ("Relu", 14, TensorProto.DOUBLE, True),
    ]:
        rows = [row for row in table.rows["", op] if row.has(version)]
        assert any(dtype in row.types.get("T", {dtype}) for row in rows) == runs


# ----- what is known of the runtimes (runtimes.md of ONNX Runtime's source, and scripts/results/profiles.md) -----
KNOWN = [
    # an index output: TensorRT refuses, WebGPU notices too late, a processor does not mind
    (POOL % ", i", {"cpu": "", "tensorrt": "fails", "web": "fails", "qnn": "falls back", "coreml": "falls back"}),
    (POOL % "", {"cpu": "", "tensorrt": "", "web": "", "qnn": "", "coreml": "", "openvino": "", "tract": ""}),
    # asymmetric pads of a transposed convolution: CUDA leaves them to the processor
    (
        "g (float[1, 2, 4, 4] x, float[2, 2, 3, 3] w) => (float[1, 2, 5, 5] y)"
        "{ y = ConvTranspose<pads = [0, 0, 1, 1]>(x, w) }",
        {"cpu": "", "cuda": "falls back", "tensorrt": "", "openvino": "", "web": "", "coreml": "falls back"},
    ),
    # a kernel wider than what it slides over, as transformers' EfficientNet pools: OpenVINO refuses
    (
        "g (float[1, 2, 4, 4] x) => (float[1, 2, 1, 1] y)"
        "{ y = AveragePool<kernel_shape = [9, 9], pads = [3, 3, 3, 3], ceil_mode = 0>(x) }",
        {"cpu": "", "openvino": ""},
    ),
    (
        "g (float[1, 2, 4, 4] x) => (float[1, 2, 1, 1] y)"
        "{ y = AveragePool<kernel_shape = [9, 9], strides = [9, 9], ceil_mode = 1>(x) }",
        {"cpu": "", "openvino": "fails"},
    ),
    # CoreML has no comparison; WebGPU no integers of 64 bits, which its processor has
    (
        "g (int64[4] x) => (bool[4] y) { y = Equal(x, x) }",
        {"cpu": "", "cuda": "", "web": "falls back", "coreml": "falls back", "openvino": ""},
    ),
    ("g (double[4] x) => (double[4] y) { y = Exp(x) }", {"cpu": "", "web": "fails", "openvino": "", "qnn": ""}),
    # half precision on a processor is computed in float32
    ("g (float16[4] x) => (float16[4] y) { y = Sign(x) }", {"cpu": "", "cuda": ""}),
    ("g (float16[4] x) => (float16[4] y) { y = Softplus(x) }", {"cpu": "falls back", "cuda": "", "directml": ""}),
    # scatters that add
    (
        "g (float[4] x, int64[2] i, float[2] u) => (float[4] y) { y = ScatterElements<reduction = \"add\">(x, i, u) }",
        {"cpu": "", "directml": "falls back", "tensorrt": "", "qnn": ""},
    ),
    ("g (float[2] x) => (float[2] y) { y = LpNormalization(x) }", {"cpu": "", "openvino": "", "coreml": "falls back"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "outcomes"), KNOWN)
def test_known_nodes(text, outcomes):
    proto = model(text, opset=17)
    assert {where: worst(proto, where) for where in outcomes} == outcomes


def test_a_finding_names_node_operator_tensor_and_reason():
    proto = model("g (double[4] x) => (double[4] y) { t = Neg(x) y = Exp(t) }")
    proto.graph.node[1].name = "the exponential"
    found = [f for f in check(proto, "web").findings if f.operator == "Exp"]
    assert found == [Finding("fails", "web", "the exponential", "Exp", "t", "not for f64")]
    assert str(found[0]) == "Exp 'the exponential' fails in web: not for f64"


def test_an_operator_that_a_runtime_has_not_is_named():
    proto = model("g (float[1, 4, 4] x) => (float[1] y) { y = Det(x) }")
    assert said(proto, "qnn") == [("falls back", "Det", "the operator is not known there: cpu takes it")]
    assert said(proto, "tract") == [("fails", "Det", "the operator is not known there")]
    assert said(proto, "tensorrt") == [("fails", "Det", "the operator is not known there")]


def test_a_version_that_a_runtime_has_not_is_named():
    text = "g (float[1, 2, 4, 4] x, float[2, 2, 3, 3] w) => (float[1, 2, 6, 6] y) { y = ConvTranspose(x, w) }"
    proto = model(text, opset=22, ir=10)
    assert said(proto, "directml") == [
        ("falls back", "ConvTranspose", "version 22 of the operator is not known there: cpu takes it")
    ]


def test_what_has_a_body_is_judged_by_it():
    """ONNX Runtime has no kernel for it, and puts its body in its place: who has what is inside, runs it."""
    text = """g (float[1, 4, 2, 2] x, float[4] s) => (float[1, 4, 2, 2] y) {
      y = GroupNormalization<num_groups = 2>(x, s, s) }"""
    proto = model(text, opset=21, ir=10)
    assert said(proto, "cpu") == []
    assert said(proto, "qnn") == []
    inside = model("g (float[4] x) => (float[4] y) { y = Mish(x) }", opset=18)
    assert [o for _, o, _ in said(inside, "coreml")] == []
    assert said(inside, "openvino") == []
    assert (
        said(model("g (float[2, 4] x) => (float[2, 4] y) { y = MeanVarianceNormalization<axes = [1]>(x) }"), "tract")
        == []
    )
    ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


# ----- graphs inside -----
GATED = """g (float[2] x, bool[1] e) => (float[2] y) {
  y = If(e) <then_branch = t () => (float[2] a) { d = Cast<to = 11>(x) f = Exp(d) a = Cast<to = 1>(f) },
             else_branch = f () => (float[2] b) { b = Neg(x) }>
}"""
LOOPED = """g (float[2] x, int64 n, bool c) => (float[2] y) {
  y = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] t) {
    k2 = Identity(k) d = Cast<to = 11>(s) f = Exp(d) t = Cast<to = 1>(f) }>
}"""


@pytest.mark.parametrize("text", [GATED, LOOPED])
def test_nodes_in_branches_and_bodies_are_seen(text):
    proto = model(text)
    assert ("fails", "Exp", "not for f64") in said(proto, "web")
    assert said(proto, "cpu") == []


def test_a_models_own_functions_are_opened_where_the_runtime_opens_them():
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
    g (double[2] x) => (double[2] y) { y = own.twice(x) }
    <domain: "own", opset_import: ["": 17]> twice (a) => (b) { t = Exp(a) b = Exp(t) }"""
    proto = parser.parse_model(text)
    assert said(proto, "cpu") == []
    assert [(s, o) for s, o, _ in said(proto, "web")] == [("fails", "Exp")] * 2
    assert said(proto, "openvino") == [("fails", "own.twice", "the operator is not known there")]


SIZED = """g (float[N, 4] x, int64[2] given) => (float[M, K] y) {
  n = Shape<start = 0, end = 1>(x) s = Concat<axis = 0>(n, two, two) y = Reshape(x, s)
}"""


def test_a_shape_from_sizes_is_not_one_that_is_given():
    """tract follows sizes through a graph; a shape that comes with the data it refuses."""
    computed = model(SIZED, two=np.array([2]))
    assert worst(computed, "tract") == ""
    given = model(SIZED.replace("Reshape(x, s)", "Reshape(x, given)"), two=np.array([2]))
    assert said(given, "tract") == [("fails", "Reshape", "'shape' depends on values that are given at run time")]


# ----- the file as a whole -----
def test_an_input_with_a_default_is_a_constant_to_some():
    proto = model("g (float[2] x, float[2] k) => (float[2] y) { y = Mul(x, k) }", k=np.ones(2))
    for where, severity in {
        "cpu": "",
        "web": "",
        "tract": "differs",
        "openvino": "differs",
        "tensorrt": "differs",
    }.items():
        assert worst(proto, where) == severity
    (found,) = check(proto, "tract").findings
    assert (found.tensor, found.node) == ("k", "")


def test_weights_of_old_files_are_no_inputs_with_defaults():
    proto = model("g (float[2] x, float[2] k) => (float[2] y) { y = Mul(x, k) }", ir=3, k=np.ones(2))
    assert worst(proto, "tract") == ""


def test_sizes_that_are_open_keep_a_file_off_qnn():
    proto = model("g (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }")
    assert [(f.severity, f.tensor) for f in check(proto, "qnn").findings] == [("falls back", "x")]
    assert worst(proto, "coreml") == ""


def test_what_is_newer_than_a_runtime_fails():
    proto = model("g (float[2] x) => (float[2] y) { y = Relu(x) }", opset=28, ir=14)
    reasons = [f.why for f in check(proto, "web").findings]
    assert reasons[:2] == [
        "opset 28 is newer than 26, the newest known there",
        "IR version 14 is newer than 13, the newest known there",
    ]
    assert check(proto, "cpu").ok


def test_portable_is_all_of_them():
    proto = model(POOL % ", i", opset=17)
    assert {f.profile for f in check(proto).fails} == {"tensorrt", "web"}
    assert not check(proto, "portable").ok
    assert check(model(POOL % "", opset=17)).ok


# ----- conversion -----
def test_require_tells_the_model_from_what_was_added():
    original = model("g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) { y = Relu(x) }")
    extended = onnx.ModelProto()
    extended.CopyFrom(original)
    extended.graph.node.append(helper.make_node("MaxPool", ["y"], ["z", "i"], "cam/pool", kernel_shape=[2, 2]))
    extended.graph.output.append(helper.make_empty_tensor_value_info("z"))
    with pytest.raises(ModelError, match=r"What explains the model does not run in 'tensorrt'.*'cam/pool'.*outputs"):
        require(extended, "tensorrt", original)
    with pytest.raises(ModelError, match="The model itself does not run in 'tensorrt'"):
        require(extended, "tensorrt", extended)
    assert [f.operator for f in require(extended, "coreml", original)] == ["MaxPool"]
    assert require(original, "web", original) == ()


def test_many_failures_are_counted():
    nodes = " ".join(f"y{i} = Exp(x)" for i in range(5))
    proto = model(f"g (double[2] x) => ({', '.join(f'double[2] y{i}' for i in range(5))}) {{ {nodes} }}")
    with pytest.raises(ModelError, match="And 2 more: onnxcam check"):
        require(proto, "web", proto)


# ----- limits -----
@pytest.mark.parametrize(
    ("text", "rule", "mark", "words"),
    [
        ("mode in nearest linear", "in", "", ("mode", "nearest", "linear")),
        ("!outputs 1", "outputs", "!", ("1",)),
        ("~absent output_shape", "absent", "~", ("output_shape",)),
    ],
)
def test_limits_are_read(text, rule, mark, words):
    assert Limit.of(text) == Limit(rule, words, mark)


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(KeyError):
        Limit.of("purple mode")


# ----- command line -----
def run(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)], prog_name="onnxcam")


@pytest.fixture
def pool(tmp_path):
    path = tmp_path / "pool.onnx"
    onnx.save(model(POOL % ", i", opset=17), path)
    return path


def test_the_command_says_that_all_runs():
    result = run(DEMO, "--for", "web")
    assert (result.exit_code, result.stdout) == (0, "Every node runs in 'web'.\n")


def test_the_command_names_what_fails(pool):
    result = run(pool, "--for", "web")
    assert result.exit_code == 1
    assert "2 outputs are used, 1 at most" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 that would fail, 0 that would fall back or differ."


def test_a_fallback_is_no_failure(pool):
    result = run(pool, "--for", "coreml")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "0 that would fail, 1 that would fall back or differ."


def test_the_command_in_json(pool):
    result = run(pool, "--for", "web", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["profile"], document["ok"]) == (1, "web", False)
    assert document["findings"][0]["operator"] == "MaxPool"


def test_bad_input_is_one_line(pool, tmp_path):
    wrong = {"No profile 'wbe'. Did you mean 'web'?": (pool, "--for", "wbe"), "Cannot read": (tmp_path / "no.onnx",)}
    for text, arguments in wrong.items():
        result = run(*arguments)
        assert result.exit_code in (1, 2)
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1
    with pytest.raises(InputError, match="No profile"):
        onnxcam.check(pool, "wasm")


@pytest.mark.parametrize(("domain", "operator"), [("com.microsoft", "FusedConv"), ("ai.onnx.ml", "Normalizer")])
def test_onnxruntime_runs_operators_of_its_own_domains(domain, operator):
    node = helper.make_node(operator, ["x"] if operator == "Normalizer" else ["x", "w"], ["y"], domain=domain)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    weights = [numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")] if "w" in node.input else []
    graph = helper.make_graph([node], "g", [x], [y], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert onnxcam.check(proto, "cpu").ok
    assert not onnxcam.check(proto, "tract").ok
