"""Write the tables of onnxcam/profiles again, as far as they are derived: `python scripts/profiles.py [NAME …]`.

    cpu                what the installed onnxruntime has registered, asked of it
    openvino, tract    what scripts/check_profiles.py found to run (build/profiles), of the operators that ONNX tries
    web                the same, of what ran on WebGPU
    wasm               the same, of what ran on WebGPU or beside it, on the processor: what `web` falls back to

Only [operators] is written; what stands before it, limits too, is put there by hand. The other tables
(cuda, directml, tensorrt, qnn, coreml) are copied by hand out of the documents that each names as its sources.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

import onnx
from onnx import TensorProto, defs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "runtimes")]

from onnxcam.profiles.limits import TYPES  # noqa: E402 - the path comes first
from onnxcam.profiles.table import GROUPS, profile  # noqa: E402 - the path comes first

TABLES = ROOT / "onnxcam/profiles"
SPELLED = {int(value): name for name, value in TYPES.items()}
MADE = {("ConstantOfShape", "T2"), ("EyeLike", "T2"), ("CastLike", "T1"), ("CastLike", "T2")}
FLOW = {"If", "Loop", "Scan"}
DOMAINS = ("ai.onnx.ml", "com.microsoft")
OPEN = 2**31 - 1
Types = Mapping[str, frozenset[str]]
Table = dict[str, dict[int, list[dict[str, frozenset[str]]]]]  # operator, version, alternatives


def schemas() -> dict[tuple[str, int], defs.OpSchema]:
    return {
        (s.name, s.since_version): s for s in defs.get_all_schemas_with_history() if s.domain == "" and not s.deprecated
    }


def registered() -> Table:
    """What onnxruntime's CPU provider has kernels for. An open range is that of its first version alone."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    table: Table = defaultdict(lambda: defaultdict(list))
    known = schemas()
    spelled = {f"tensor({onnx_name(t)})": name for name, t in TYPES.items()}
    for kernel in runtime.get_all_opkernel_def():
        first, last = kernel.version_range
        for (op, version), schema in known.items():
            if (op, kernel.domain) == (kernel.op_name, "") and (version == first or first < version <= last != OPEN):
                parameters = {p.type_str for p in (*schema.inputs, *schema.outputs)}
                types = {
                    p: frozenset(spelled[t] for t in names if t in spelled)
                    for p, names in kernel.type_constraints.items()
                    if p in parameters
                }
                table[op][version].append({p: names for p, names in types.items() if names})
    return table


def contributed() -> list[str]:
    """The same of operators that are not ONNX's own, whatever their types: their versions, by domain."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    ranges: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kernel in runtime.get_all_opkernel_def():
        first, last = kernel.version_range
        ranges[kernel.domain, kernel.op_name].add(f"{first}-" if last == OPEN else f"{first}-{last}")
    text = []
    for domain in DOMAINS:
        own = sorted((op, ",".join(sorted(found))) for (d, op), found in ranges.items() if d == domain)
        text += ["", f'[operators."{domain}"]', *(f'{op} = "{found}"' for op, found in own)]
    return text


def onnx_name(dtype: int) -> str:
    return TensorProto.DataType.Name(dtype).lower()


def observed(runtime: str, home: Path, outcomes: tuple[str, ...] = ("ok",)) -> Table:
    """What ran in a runtime, one way at least: the types that each type parameter had, whichever the version."""
    import probe

    table: Table = defaultdict(lambda: defaultdict(list))
    halves: Table = defaultdict(lambda: defaultdict(list))
    others = probe.read(home / "wasm.jsonl") if runtime == "webgpu" else ()  # a browser may have no WebGPU
    for number, (outcome, message) in enumerate(probe.read(home / f"{runtime}.jsonl")):
        if others and others[number][0] != "ok":
            continue
        half = "requires f16 but the device does not" in message  # a software adapter has none; others do
        if outcome not in outcomes and not half:
            continue
        model = onnx.load(home / f"bank/{number}.onnx")
        if len(model.graph.node) == 1 and not model.graph.node[0].domain:
            node = model.graph.node[0]
            schema = defs.get_schema(node.op_type, model.opset_import[0].version, "")
            (halves if half else table)[node.op_type][schema.since_version].append(_types(model, node, schema))
    for op in table.keys() & halves.keys():
        for version, types in halves[op].items():
            table[op][version] += types
    cast = frozenset().union(*(t["T2"] for rows in table["Cast"].values() for t in rows))
    for op, versions in table.items():
        every = [types for alternatives in versions.values() for types in alternatives]
        wide = {p: frozenset().union(*(t.get(p, frozenset()) for t in every)) for p in {p for t in every for p in t}}
        # An attribute or a body says what these are of: anything that there is, of what Cast can make.
        wide |= {p: cast for o, p in MADE if o == op}
        versions.update({version: [{p: t for p, t in wide.items() if op not in FLOW}] for version in versions})
    return table


def _types(model: onnx.ModelProto, node: onnx.NodeProto, schema: defs.OpSchema) -> dict[str, frozenset[str]]:
    graph = model.graph
    dtypes = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    dtypes |= {t.name: t.data_type for t in graph.initializer}
    found: dict[str, frozenset[str]] = {}
    for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for i, name in enumerate(names):
            if dtypes.get(name) in SPELLED and formal:
                found[formal[min(i, len(formal) - 1)].type_str] = frozenset({SPELLED[dtypes[name]]})
    return found


def merged(alternatives: Iterable[Types]) -> list[Types]:
    """Alternatives that differ in one type parameter become one."""
    rows: list[dict[str, frozenset[str]]] = []
    for types in alternatives:
        if dict(types) not in rows:
            rows.append(dict(types))
    joined = True
    while joined:
        joined = False
        for a, b in product(rows, rows):
            differing = [p for p in a if a.keys() == b.keys() and a[p] != b[p]]
            if a is not b and len(differing) <= 1 and a.keys() == b.keys():
                rows.remove(b)
                a.update({p: a[p] | b[p] for p in differing})
                joined = True
                break
    return list(rows)


def lines(op: str, versions: Mapping[int, list[dict[str, frozenset[str]]]]) -> list[str]:
    """The lines of an operator: versions with the same types share one; what may be of any type is left out."""
    known = schemas()
    allowed: dict[str, set[str]] = defaultdict(set)
    for version in versions:
        for constraint in known[op, version].type_constraints:
            spelled = {t for t in TYPES if f"tensor({onnx_name(TYPES[t])})" in constraint.allowed_type_strs}
            allowed[constraint.type_param_str] |= spelled - {"string"}
    shared: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for version in sorted(versions):
        rows = merged(versions[version])
        texts = {" ".join(f"{p}={_named(t)}" for p, t in sorted(r.items()) if not t >= allowed[p]) for r in rows}
        shared[tuple(sorted(texts))].append(version)
    every = sorted(version for name, version in known if name == op)
    return [f"{_ranges(found, every)} {text}".strip() for texts, found in shared.items() for text in texts]


def _named(types: frozenset[str]) -> str:
    words, left = [], set(types)
    for group, members in GROUPS.items():
        if left >= set(members):
            words.append(group)
            left -= set(members)
    return ",".join([*words, *sorted(left)])


def _ranges(versions: list[int], every: list[int]) -> str:
    """Versions as ranges: "7-13,18" where those between are all of these."""
    parts: list[list[int]] = []
    for version in versions:
        if parts and every.index(parts[-1][-1]) + 1 == every.index(version):
            parts[-1].append(version)
        else:
            parts.append([version])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def write(name: str, table: Table) -> None:
    path = TABLES / f"{name}.toml"
    head, _, _ = path.read_text().partition("[operators]\n")
    text = [head + "[operators]"]
    known = schemas()
    table["Constant"] = {version: [{}] for op, version in known if op == "Constant"}  # a constant to every runtime
    for op in sorted(table):
        rows = lines(op, table[op])
        if len(rows) == 1:
            text.append(f'{op} = "{rows[0]}"')
        else:
            text += [f"{op} = [", *(f'    "{row}",' for row in rows), "]"]
    text += contributed() if name == "cpu" else []
    path.write_text("\n".join(text) + "\n")
    profile.cache_clear()
    print(
        f"{name}: {len(table)} operators, {sum(len(v.versions) for r in profile(name).rows.values() for v in r)} ranges"
    )


def main() -> None:
    derived = ("cpu", "openvino", "tract", "web", "wasm")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(derived))
    parser.add_argument("--home", type=Path, default=ROOT / "build/profiles", help="Where check_profiles.py works.")
    chosen = parser.parse_args()
    for name in chosen.names or derived:
        if name == "cpu":
            write(name, registered())
        elif name == "wasm":
            write(name, observed("webgpu", chosen.home, ("ok", "elsewhere")))
        else:
            write(name, observed("webgpu" if name == "web" else name, chosen.home))


if __name__ == "__main__":
    main()
