"""python explain.py FILE PHOTO OUT.png: a file of `onnxcam convert` in tract, the Rust engine for small devices."""

import sys
from pathlib import Path

import tract

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from photo import arguments, metadata, prepare, report

file, photo, out = arguments()
about = metadata(file)
image = prepare(photo, about)

model = tract.onnx().load(file)
names = [model.output_name(i) for i in range(model.output_count())]
sizes = str(model.input_fact(0)).split(",")[:-1]  # those that are open have a name: "N,3,224,224,f32"
planned = model.into_model()
planned.transform(tract.SetSymbols({s: n for s, n in zip(sizes, image.shape, strict=True) if not s.isdecimal()}))
results = [tensor.to_numpy() for tensor in planned.into_runnable().run([image])]
heatmap = results[names.index("cam/heatmap")]
report(results[0][0], heatmap[0], about, out)
