"""Write a multilayer perceptron on flattened pictures with scikit-learn and skl2onnx.

    python scripts/exports/from_sklearn.py OUT.onnx

Python 3.12.1, scikit-learn 1.9.1, skl2onnx 1.20.0, onnx 1.23.2, numpy 2.5.5. Such a model has no feature map.
"""

import sys

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

rng = np.random.default_rng(1)
pictures = rng.normal(size=(40, 3 * 8 * 8)).astype(np.float32)
classes = np.arange(40) % 4
model = MLPClassifier((16,), max_iter=400, random_state=1).fit(pictures, classes)
with open(sys.argv[1], "wb") as file:
    file.write(to_onnx(model, pictures[:1], options={"zipmap": False}).SerializeToString())
