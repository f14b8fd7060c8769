"""python explain.py FILE PHOTO OUT.png: a file of `onnxcam convert` in OpenVINO, which reads ONNX as it is."""

import sys
from pathlib import Path

import openvino

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from photo import arguments, metadata, prepare, report

file, photo, out = arguments()
about = metadata(file)

# Without the hint, processors that have bfloat16 compute in it, and the map moves by up to 5e-2.
model = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
results = model([prepare(photo, about)])
report(results[0][0], results["cam/heatmap"][0], about, out)
