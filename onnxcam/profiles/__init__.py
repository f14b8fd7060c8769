"""Where a file will run: a table for each runtime of the operators, versions and types that it has, and a checker.

A table is a file NAME.toml beside this one, read by `table`; `check` holds a model against it.
"""

PROFILES = (
    "portable",
    "cpu",
    "cuda",
    "tensorrt",
    "openvino",
    "tract",
    "web",
    "directml",
    "qnn",
    "coreml",
)
