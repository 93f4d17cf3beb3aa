"""A model file is somebody else's: only its constants are read, and only if they fit."""

import numpy as np
import onnx
import pytest

from pipeline.errors import InputError
from prediction.make import make_predictor
from prediction.predictor import PredictorConfig
from prediction.weights import MAX_FILE_BYTES
from tests.prediction.models import constants, write_model


def make(path, name="residual"):
    return make_predictor(PredictorConfig(name=name, model=str(path)))


@pytest.mark.parametrize("name", ["residual", "pvt-motion"])
def test_a_missing_model_names_the_command_that_trains_one(name, tmp_path):
    with pytest.raises(InputError, match=f"prediction.train {name}"):
        make(tmp_path / "none.onnx", name)


@pytest.mark.parametrize("content", [b"", b"no model at all", bytes(range(256)) * 40])
def test_a_file_that_is_no_model_is_refused(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.onnx is no residual model"):
        make(tmp_path / "m.onnx")


def test_a_folder_and_a_huge_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="not a file"):
        make(tmp_path)
    with open(tmp_path / "m.onnx", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match="4 MiB"):
        make(tmp_path / "m.onnx")


def test_weights_that_are_missing_misshapen_or_not_finite_are_refused(tmp_path):
    good = constants("residual")
    wrong = {
        "has no float constant 'w2'": {k: v for k, v in good.items() if k != "w2"},
        "'b1' has the shape": {**good, "b1": np.zeros(7)},
        "'w3' is not finite": {**good, "w3": good["w3"] * np.nan},
    }
    for k, (message, values) in enumerate(wrong.items()):
        with pytest.raises(InputError, match=message):
            make(write_model(tmp_path / f"{k}.onnx", values))


def test_the_other_kind_of_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no pvt-motion model"):
        make(write_model(tmp_path / "r.onnx", constants("residual")), "pvt-motion")


def test_constants_outside_the_file_are_not_fetched(tmp_path):
    path = write_model(tmp_path / "m.onnx", constants("residual"))
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="has no float constant"):
        make(tmp_path / "e.onnx")


def test_a_tensor_with_fewer_numbers_than_its_shape_says_is_refused(tmp_path):
    path = write_model(tmp_path / "m.onnx", constants("residual"))
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"\0" * 8
    (tmp_path / "s.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="is no residual model"):
        make(tmp_path / "s.onnx")
