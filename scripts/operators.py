"""Sweep ONNX's node tests and write what came of it: docs/operators.md, and tests/grad/exceptions.json for the tests.

Run it after a change of rules, or with a new onnx or onnxruntime: `python scripts/operators.py` (about a minute).
"""

import json
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

HEAD = """# Operators

Every operator that ONNX's own node tests try with float numbers, and whether its gradient holds there: for each float
input of each case, the gradient of a random projection of the output against differences in float64. Made by
`scripts/operators.py` with onnx {onnx} and onnxruntime {onnxruntime}; the tests check that it is current.

`by reference`: onnxruntime does not run the operator, so ONNX's reference computed the gradient too. `independent`: no
gradient exists, because the input decides a shape or nothing depends on it. `no forward`: neither the reference nor
onnxruntime computes the case as its own data says, so there is nothing to compare with.

"""


def main() -> int:
    import onnx
    import onnxruntime

    from tests.grad.upstream import cases, check, table

    warnings.simplefilter("ignore")  # numpy's complaints about the infinities that some cases are made of
    exceptions: dict[str, dict[str, list[str]]] = {}
    wrong = 0
    for name, case in cases().items():
        for result in check(case):
            if result.outcome == "wrong":
                wrong += 1
                print(f"WRONG {name}, input {result.input}: {result.detail}", file=sys.stderr)
            elif result.outcome != "verified":
                exceptions.setdefault(name, {})[result.input] = [result.outcome, result.detail]
    if wrong:
        return 1
    (ROOT / "tests/grad/exceptions.json").write_text(json.dumps(exceptions, indent=1, sort_keys=True) + "\n")
    text = HEAD.format(onnx=onnx.__version__, onnxruntime=onnxruntime.__version__) + table(exceptions)
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs/operators.md").write_text(text)
    print(text.splitlines()[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
