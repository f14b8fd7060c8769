"""Preprocessing and class names that are given as files, or lie in a model or beside it."""

import json
import sys

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam import Explainer
from onnxcam.errors import InputError
from onnxcam.preprocessing import Preprocess, Slot, from_file, huggingface, preset, timm
from tests.builders import Net

NET = Net()
SIZE = (6, 5)  # of NET's input


def saved(folder, name="m.onnx", **metadata):
    """NET as a file, with metadata."""
    proto = NET.model()
    for key, value in metadata.items():
        proto.metadata_props.add(key=key.replace("__", "."), value=value)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, folder / name)
    return folder / name


def beside(folder, **files):
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 6, "width": 5}, "resample": 3,
       "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
       "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}  # fmt: skip
OF_VIT = Preprocess(SIZE, (25.5, 51, 76.5), (102, 127.5, 153), interpolation="bicubic")
TIMM = {"architecture": "x", "pretrained_cfg": {"input_size": [3, 6, 5], "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6], "interpolation": "bicubic", "crop_pct": 0.9}}  # fmt: skip
OF_TIMM = Preprocess(SIZE, (25.5, 51, 76.5), (102, 127.5, 153), resize="crop", crop_ratio=0.9, interpolation="bicubic")


def same(found, expected):
    np.testing.assert_allclose(found.mean, expected.mean)
    np.testing.assert_allclose(found.std, expected.std)
    assert {**vars(found), "mean": 0, "std": 0, "source": 0} == {**vars(expected), "mean": 0, "std": 0, "source": 0}


# ----- a file that a person gives -----
def test_a_file_takes_what_it_leaves_out_from_the_model(tmp_path):
    file = tmp_path / "p.json"
    file.write_text('{"std": [255], "resize": "crop"}')
    found, said = from_file(file, Slot((6, 5), "NHWC", "float16", 3))
    assert found == Preprocess((6, 5), std=(255,), resize="crop", layout="NHWC", dtype="float16")
    assert f"file '{file}'" in found.describe()
    assert said == ()
    assert from_file(file, Slot((6, 5), channels=1))[0].color == "GRAY"
    file.write_text('{"resize": "proportional", "shortest_edge": 9}')
    assert from_file(file, Slot((6, 5)))[0].size is None


def test_yaml_is_what_json_is(tmp_path):
    pytest.importorskip("yaml", reason="PyYAML is an extra")
    (tmp_path / "p.json").write_text('{"size": [8, 9], "mean": [1, 2, 3.5], "resize": "crop", "shortest_edge": 10}')
    (tmp_path / "p.yaml").write_text("size: [8, 9]\nmean: [1, 2, 3.5]\nresize: crop\nshortest_edge: 10\n")
    assert from_file(tmp_path / "p.yaml")[0] == from_file(tmp_path / "p.json")[0]
    (tmp_path / "p.yml").write_text("size: [8\n- a: }")
    with pytest.raises(InputError, match="is not YAML") as caught:
        from_file(tmp_path / "p.yml")
    assert "\n" not in str(caught.value)


def test_yaml_without_pyyaml_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "p.yaml").write_text("size: [8, 9]")
    with pytest.raises(InputError, match=r"p\.yaml.*pip install PyYAML$"):
        from_file(tmp_path / "p.yaml")


@pytest.mark.parametrize(("content", "expected"), [(VIT, OF_VIT), (TIMM, OF_TIMM)], ids=["hugging face", "timm"])
def test_configurations_of_others_are_files_too(tmp_path, content, expected):
    file = tmp_path / "given.json"
    file.write_text(json.dumps(content))
    same(from_file(file, Slot(SIZE))[0], expected)
    same(Explainer(NET.model(), preprocess=file).preprocess, expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b'{"means": [0]}', "Its fields are: size, mean, std"),
        (b'{"image_mean": "a", "do_normalize": true, "image_std": [1]}', "'image_mean' is 'a'"),
        (b'{"do_resize": true, "size": {"heigth": 3}}', "'size' is"),
        (b'{"do_resize": true, "size": {"height": 3}}', "'size' is"),
        (b'{"do_resize": true, "size": -3}', "'size' is -3"),
        (b'{"do_resize": true, "size": true}', "'size' is True"),
        (b'{"do_resize": true, "size": {"shortest_edge": 0}}', "'size' is {'shortest_edge': 0}; it must be"),
        (b'{"do_resize": true, "size": {"shortest_edge": 65536}}', "a whole number from 1 to 65535"),
        (b'{"do_resize": true, "size": {"longest_edge": 1000000000}}', "a whole number from 1 to 65535"),
        (b'{"do_resize": true, "size": 8, "crop_size": 1000000000}', "'crop_size' is 1000000000"),
        (b'{"size": [8, 65536]}', "'size' must be [height, width], whole and from 1 to 65535"),
        (b'{"resize": "crop", "shortest_edge": 65536}', "'shortest_edge' must be a whole number from 1 to 65535"),
        (b'{"pretrained_cfg": {"input_size": [3, 8, 65536]}}', "'input_size' is"),
        (b'{"do_resize": true, "size": 8, "resample": 9}', "'resample' is 9"),
        (b'{"do_resize": true, "size": 8, "rescale_factor": 0}', "'rescale_factor' is 0"),
        (b'{"do_normalize": true, "size": 8}', "'image_mean' is None"),
        (b'{"do_normalize": true, "size": 8, "image_mean": [0], "image_std": [0]}', "'std' must be"),
        (b'{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": true}',
         "no image processor"),
        (b'{"pretrained_cfg": {"input_size": 224}}', "'input_size' is 224"),
        (b'{"pretrained_cfg": {"crop_pct": "a"}}', "'crop_pct' is 'a'"),
        (b'{"pretrained_cfg": {"crop_mode": "side"}}', "'crop_mode' is 'side'"),
        (b'{"pretrained_cfg": {"mean": ["a"]}}', "'mean' is"),
        (b'{"pretrained_cfg": {"interpolation": "sharp"}}', "interpolation 'sharp'"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_clear_line(tmp_path, content, said):
    file = tmp_path / "p.json"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Explainer(NET.model(), preprocess=file)
    assert said in str(caught.value)
    assert "p.json'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "none.yaml", "."])
def test_a_file_that_is_not_there_is_one_clear_line(tmp_path, name):
    with pytest.raises(InputError, match="Cannot read preprocessing"):
        from_file(tmp_path / name)


# ----- Hugging Face's forms; the numbers are in test_golden.py -----
@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 224}, {"size": (224, 224), "resize": "stretch"}),
        (
            {"image_processor_type": "GLPNImageProcessor", "do_resize": True, "size_divisor": 32},
            {"size": None, "resize": "stretch", "multiple": 32, "mean": (0.0,), "std": (255.0,)},
        ),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 200, "do_center_crop": True},
            {"size": (200, 200), "resize": "crop", "shortest_edge": 224, "interpolation": "bicubic"},
        ),
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224},
            {"size": (224, 224), "resize": "crop", "resized": (256, 256)},
        ),
        ({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224}, {"shortest_edge": 256}),
        ({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.95}, {"shortest_edge": 235}),
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 384},
            {"resize": "stretch", "size": (384, 384)},
        ),
        (
            {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}, "crop_size": 224},
            {"shortest_edge": 256, "size": (224, 224)},
        ),
        ({"image_processor_type": "MobileViTImageProcessor", "size": 288, "crop_size": 256}, {"color": "BGR"}),
        ({"do_resize": True, "size": [30, 40]}, {"size": (30, 40)}),
        (
            {"do_resize": True, "size": {"shortest_edge": 800, "longest_edge": 1333}},
            {"resize": "proportional", "size": None, "longest_edge": 1333},
        ),
        ({"do_resize": True, "size": {"longest_edge": 1024}}, {"resize": "letterbox", "size": (1024, 1024)}),
        ({"do_resize": True, "size": 8, "resample": "PIL.Image.Resampling.HAMMING"}, {"interpolation": "hamming"}),
        ({"do_resize": True, "size": 8, "do_rescale": False}, {"std": (1.0,)}),
        ({"do_resize": True, "size": 8, "rescale_offset": True, "rescale_factor": 1 / 127.5}, {"mean": (127.5,)}),
        ({"image_processor": {"do_resize": True, "size": 8}}, {"size": (8, 8)}),
    ],
)
def test_hugging_faces_forms(config, fields):
    found, said = huggingface.read(config, Slot(), "it")
    assert {name: getattr(found, name) for name in fields} == fields
    assert said == ()


def test_what_is_not_followed_is_said():
    config = {"do_resize": True, "size": 8, "do_magnify_text": True, "do_shrink": False}
    assert "do_magnify_text" in huggingface.read(config, Slot(), "it")[1][0]
    for size in (8, {"shortest_edge": 8, "longest_edge": 9}):
        _, said = huggingface.read({"do_resize": True, "size": size}, Slot((6, 6)), "it")
        assert len(said) == 1
    assert "for 6×5, the file takes 7×7" in timm.read(TIMM, Slot((7, 7)), "it")[1][0]


def test_a_crop_grows_with_the_input_that_the_file_has():
    config = {"do_resize": True, "size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}
    found, _ = huggingface.read(config, Slot((112, 112)), "it")
    assert (found.size, found.shortest_edge) == ((112, 112), 128)


def test_timms_test_size_has_its_own_crop():
    cfg = {"input_size": [3, 224, 224], "crop_pct": 0.875, "test_input_size": [3, 288, 288], "test_crop_pct": 0.95}
    assert timm.read({"pretrained_cfg": cfg}, Slot((288, 288)), "")[0].crop_ratio == 0.95
    assert timm.read({"pretrained_cfg": cfg}, Slot((224, 224)), "")[0].crop_ratio == 0.875
    assert timm.read(cfg | {"architecture": "old form"}, Slot(), "")[0].crop_ratio == 0.875


def test_perceiver_crops_to_a_part_of_the_photo_and_not_to_the_crop_size():
    config = {"image_processor_type": "PerceiverImageProcessor", "do_center_crop": True, "size": 224, "crop_size": 256}
    found, _ = huggingface.read(config, Slot(), "it")
    assert (found.size, found.resize, found.crop_ratio) == ((224, 224), "crop", 0.875)


# ----- beside the model and in it -----
@pytest.mark.parametrize("folder", ["", "onnx"])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [("preprocessor_config.json", VIT, OF_VIT), ("config.json", TIMM, OF_TIMM),
     ("processor_config.json", {"image_processor": VIT}, OF_VIT)],
)  # fmt: skip
def test_a_configuration_beside_the_model_is_found_and_said(tmp_path, folder, name, content, expected):
    path = saved(tmp_path / folder)
    beside(tmp_path, **{name: content})
    explainer = Explainer(path)
    same(explainer.preprocess, expected)
    place = "in the folder above the model" if folder else "beside the model"
    assert f"preprocessing from '{name}' {place}" in explainer.assumptions
    assert onnxcam.inspect(path).preprocess == explainer.preprocess


def test_the_order_is_own_metadata_then_ultralytics_then_beside(tmp_path):
    yolo = {"stride": "32", "names": "{0: 'a', 1: 'b', 2: 'c'}", "task": "detect"}
    ours = {"cam__preprocess": Preprocess(SIZE, std=(9.0,)).to_json()}
    for n, (metadata, expected) in enumerate(
        ((ours | yolo, Preprocess(SIZE, std=(9.0,))), (yolo, preset("yolo", SIZE)), ({}, OF_VIT))
    ):
        path = saved(tmp_path / str(n), **metadata)
        beside(tmp_path / str(n), preprocessor_config__json=VIT, config__json=TIMM)
        same(onnxcam.inspect(path).preprocess, expected)


def test_a_guess_that_was_written_into_a_file_stays_one(tmp_path):
    path = saved(tmp_path, cam__preprocess=onnxcam.inspect(NET.model()).preprocess.to_json())
    assert onnxcam.inspect(path).preprocess.source == "from the model's metadata (preset 'imagenet', a guess)"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"stride": "32", "names": "x", "task": "segment", "imgsz": "[320, 480]"}, preset("yolo", SIZE)),
        ({"stride": "1", "names": "x", "task": "classify"}, Preprocess(SIZE, std=(255.0,))),
        (
            {"stride": "32", "names": "x"},  # YOLOv5's classifier
            Preprocess(SIZE, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), resize="crop", crop_ratio=1,
                       interpolation="linear"),
        ),
        (
            {"Image__BitmapPixelFormat": "Bgr8", "Image__NominalPixelRange": "NominalRange_0_255"},
            Preprocess(SIZE, color="BGR"),
        ),
        ({"Image__BitmapPixelFormat": "Bgr8"}, Preprocess(SIZE, color="BGR")),  # onnxmltools, from Core ML
        (
            {"Image__BitmapPixelFormat": "Rgb8", "Image__NominalPixelRange": "Normalized_1_1"},
            Preprocess(SIZE, (127.5,), (127.5,)),
        ),
    ],
)  # fmt: skip
def test_metadata_of_others(tmp_path, metadata, expected):
    explainer = Explainer(saved(tmp_path, **metadata))
    same(explainer.preprocess, expected)
    assert any(line.startswith("preprocessing from the model's ") for line in explainer.assumptions)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is not JSON"), ('{"means": [0]}', "no field 'means'"), ('{"std": [0]}', "'std' must be"), ("[]", None)],
)
def test_wrong_metadata_of_our_own_is_said_and_passed_over(tmp_path, text, said):
    explainer = Explainer(saved(tmp_path, cam__preprocess=text))
    assert explainer.preprocess == preset("imagenet", SIZE)
    assert said is None or any("'cam.preprocess' is passed over" in x and said in x for x in explainer.assumptions)
    assert Explainer(tmp_path / "m.onnx", preprocess="tf").preprocess == preset("tf", SIZE)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"preprocessor_config__json": "{"}, "'preprocessor_config.json' is passed over: it is not JSON"),
        ({"preprocessor_config__json": "[" * 100_000}, "it is not JSON"),
        ({"preprocessor_config__json": {"do_resize": True, "size": "big"}}, "is passed over: 'size' is 'big'"),
        ({"preprocessor_config__json": {"do_normalize": True, "sampling_rate": 16000}}, "no image processor"),
        ({"config__json": {"pretrained_cfg": {"crop_pct": -1}}}, "is passed over: 'crop_pct' is -1"),
        ({"preprocessor_config__json": [1, 2]}, None),
        ({"config__json": {"model_type": "vit", "id2label": 7}}, None),
        ({"config__json": "null", "labels__txt": "a\nb\n", "classes__json": "{}"}, None),
    ],
)
def test_what_cannot_be_used_beside_a_model_is_said_and_passed_over(tmp_path, files, said):
    path = saved(tmp_path)
    beside(tmp_path, **files)
    explainer = Explainer(path)
    assert explainer.preprocess == preset("imagenet", SIZE)
    assert any("is a guess" in line for line in explainer.assumptions)
    assert said is None or any(said in line for line in explainer.assumptions)
    assert all("\n" not in line for line in explainer.assumptions)
    assert explainer.labels is None


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({"config__json": {"id2label": {"0": "cat", "2": "dog", "1": "bird"}}}, "config.json"),
        ({"config__json": {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n2": "bird",
          "n3": "dog"}, "pretrained_cfg": {}}}, "config.json"),
        ({"config__json": {"pretrained_cfg": {"label_names": ["cat", "bird", "dog"]}}}, "config.json"),
        ({"labels__txt": "cat\nbird\n\ndog\n"}, "labels.txt"),
        ({"labels__txt": "0 cat\n1 bird\n2 dog"}, "labels.txt"),
        ({"synset__txt": "n00000001 cat\nn00000002 bird\nn00000003 dog"}, "synset.txt"),
        ({"classes__txt": "\ufeffcat\r\nbird\r\ndog"}, "classes.txt"),
        ({"labels__json": ["cat", "bird", "dog"]}, "labels.json"),
        ({"labels__json": {"0": ["n1", "cat"], "1": ["n2", "bird"], "2": ["n3", "dog"]}}, "labels.json"),
        ({"m__labels__txt": "cat\nbird\ndog", "labels__txt": "x\ny\nz"}, "m.labels.txt"),
        ({"labels__txt": "too\nfew", "classes__txt": "cat\nbird\ndog"}, "classes.txt"),
    ],
)  # fmt: skip
def test_class_names_beside_a_model_are_taken_where_their_number_fits(tmp_path, files, source):
    path = saved(tmp_path)
    beside(tmp_path, **files)
    explainer = Explainer(path, target="bird")
    assert explainer.labels == ["cat", "bird", "dog"]
    assert f"class names from '{source}' beside the model" in explainer.assumptions
    assert onnxcam.inspect(path).labels == ("cat", "bird", "dog")


@pytest.mark.parametrize(
    "files",
    [
        {"config__json": {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}},
        {"config__json": {"id2label": {"a": "x", "b": "y", "c": "z"}}},
        {"labels__txt": "a\nb"},
        {"notes__txt": "a\nb\nc"},
    ],
)
def test_other_files_beside_a_model_are_no_class_names(tmp_path, files):
    path = saved(tmp_path)
    beside(tmp_path, **files)
    assert Explainer(path).labels is None


def test_numbers_that_belong_to_the_names_stay(tmp_path):
    path = saved(tmp_path)
    beside(tmp_path, labels__txt="3 of spades\n2 of hearts\n10 of clubs")
    assert Explainer(path).labels == ["3 of spades", "2 of hearts", "10 of clubs"]


def test_a_models_own_names_come_first(tmp_path):
    path = saved(tmp_path, names="['a', 'b', 'c']")
    beside(tmp_path, labels__txt="x\ny\nz")
    explainer = Explainer(path)
    assert explainer.labels == ["a", "b", "c"]
    assert not any("class names" in line for line in explainer.assumptions)
