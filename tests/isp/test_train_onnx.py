"""Networks read from ONNX: onnxruntime agrees on values, finite differences on gradients."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from evaluation.data import find_data
from pipeline.errors import InputError

pytest.importorskip("torch", reason="torch is not installed (the train extra)")
import torch

from isp.train_onnx import OnnxModule
from isp.train_onnx_operators import OPERATORS

MODELS = [
    ("detectors", "yolox_nano_416.onnx"),
    ("detectors", "nanodet_m_320.onnx"),
    ("detectors", "fastestdet_352.onnx"),
    ("detectors", "yunet_n_320.onnx"),
    ("nanotrackv3", "nanotrack_backbone.onnx"),
]
SHAPE = (1, 4, 6, 8)
WINDOW = {"kernel_shape": [3, 3]}
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(0, 0.3, (6, 4, 3, 3)).astype(np.float32)
DEPTHWISE = RNG.normal(0, 0.3, (4, 1, 3, 3)).astype(np.float32)
POINTWISE = RNG.normal(0, 0.3, (6, 4, 1, 1)).astype(np.float32)
DENSE = RNG.normal(0, 0.3, (5, 8)).astype(np.float32)
BIAS = RNG.normal(0, 0.3, 6).astype(np.float32)
PER_CHANNEL = RNG.uniform(0.5, 1.5, (4, 4)).astype(np.float32)
NORM = list(PER_CHANNEL)


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


def node(kind, *inputs, to="y", **attributes):
    """A line of a graph; arrays among the inputs become its constants."""
    return kind, inputs, [to] if isinstance(to, str) else to, attributes


CASES = {
    "convolution": [node("Conv", "x", WEIGHT, BIAS, pads=[1, 1, 1, 1], strides=[2, 2])],
    "uneven": [node("Conv", "x", WEIGHT, pads=[0, 1, 2, 0], dilations=[2, 2])],
    "depthwise": [node("Conv", "x", DEPTHWISE, group=4, pads=[1, 1, 1, 1])],
    "pointwise": [node("Conv", "x", POINTWISE, BIAS)],
    "pointwise_apart": [node("Conv", "x", POINTWISE, BIAS, strides=[2, 2])],
    "maximum": [node("MaxPool", "x", **WINDOW, pads=[1, 1, 1, 1], strides=[2, 2])],
    "maximum_uneven": [node("MaxPool", "x", **WINDOW, pads=[0, 0, 2, 2], ceil_mode=1)],
    "average": [node("AveragePool", "x", **WINDOW, pads=[1, 1, 1, 1], strides=[2, 2])],
    "average_counted": [
        node("AveragePool", "x", **WINDOW, pads=[1, 1, 1, 1], count_include_pad=1)
    ],
    "average_all": [node("GlobalAveragePool", "x")],
    "norm": [node("BatchNormalization", "x", *NORM)],
    "norm_folded": [
        node("Conv", "x", DEPTHWISE, PER_CHANNEL[0], group=4, to="a"),
        node("BatchNormalization", "a", *NORM, epsilon=1e-2),
    ],
    "norm_folded_unbiased": [
        node("Conv", "x", DEPTHWISE, group=4, to="a"),
        node("BatchNormalization", "a", *NORM),
    ],
    "norm_kept": [
        node("Conv", "x", DEPTHWISE, group=4, to="a"),
        node("BatchNormalization", "a", *NORM, to="b"),
        node("Mul", "a", "b"),
    ],
    "relu": [node("Relu", "x")],
    "leaky": [node("LeakyRelu", "x", alpha=0.2)],
    "sigmoid": [node("Sigmoid", "x")],
    "tanh": [node("Tanh", "x")],
    "exp": [node("Exp", "x")],
    "hard_sigmoid": [node("HardSigmoid", "x", alpha=0.3)],
    "hard_swish": [node("HardSwish", "x")],
    "silu": [node("Sigmoid", "x", to="s"), node("Mul", "s", "x")],
    "not_silu": [node("Sigmoid", "x", to="s"), node("Mul", "s", "x", to="m"),
                 node("Add", "m", "s")],
    "clip": [node("Clip", "x", floats(-0.5).reshape(()), floats(0.6).reshape(()))],
    "clip_above": [node("Clip", "x", "", floats(0.6).reshape(()))],
    "softmax": [node("Softmax", "x", axis=1)],
    "arithmetic": [
        node("Add", "x", PER_CHANNEL[0].reshape(4, 1, 1), to="a"),
        node("Mul", "a", "x", to="m"),
        node("Div", "m", floats(3), to="d"),
        node("Sub", floats(1), "d"),
    ],
    "raised_rank": [node("Add", "x", PER_CHANNEL[0].reshape(1, 1, 4, 1, 1))],
    "concat": [node("Concat", "x", "x", np.ones((1, 2, 6, 8), np.float32), axis=1)],
    "concat_first": [node("Concat", "x", "x", axis=0)],
    "split": [
        node("Split", "x", ints(1, 3), axis=1, to=["a", "b"]),
        node("Concat", "b", "a", axis=1),
    ],
    "slice": [node("Slice", "x", ints(1, -5), ints(2**62, 5), ints(2, 3), ints(2, 1))],
    "slice_first": [node("Slice", "x", ints(0), ints(1))],
    "gather": [node("Gather", "x", ints(3, -1, 0), axis=2)],
    "pad": [node("Pad", "x", ints(0, 0, 1, 2, 0, 1, 0, 3), floats(0.5).reshape(()))],
    "nearest": [
        node("Resize", "x", "", floats(1, 1, 2, 3), mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric")
    ],
    "linear": [node("Resize", "x", "", floats(1, 1, 0.5, 1.5), mode="linear")],
    "linear_sizes": [
        node("Resize", "x", "", "", ints(1, 4, 9, 5), mode="linear",
             coordinate_transformation_mode="align_corners")
    ],
    "transpose": [node("Transpose", "x", perm=[3, 0, 2, 1])],
    "flatten": [node("Flatten", "x", axis=2)],
    "squeeze": [
        node("Unsqueeze", "x", ints(0, -1), to="u"),
        node("Squeeze", "u", ints(0, 1), to="s"),
        node("Identity", "s"),
    ],
    "dense": [
        node("GlobalAveragePool", "x", to="p"),
        node("Reshape", "p", ints(1, 4), to="r"),
        node("Gemm", "r", DENSE[:, :4].copy(), BIAS[:5], transB=1, alpha=0.5, beta=2.0, to="g"),
        node("MatMul", "g", DENSE),
    ],
    "shuffle": [
        node("Reshape", "x", ints(1, 2, 2, 6, 8), to="r"),
        node("Transpose", "r", perm=[0, 2, 1, 3, 4], to="t"),
        node("Reshape", "t", ints(0, -1, 6, 8)),
    ],
    "shuffle_without_batch": [
        node("Reshape", "x", ints(2, 2, 48), to="r"),
        node("Transpose", "r", perm=[1, 0, 2], to="t"),
        node("Reshape", "t", ints(2, -1, 2, 6, 8), to="u"),
        node("Gather", "u", ints(0).reshape(()), axis=0, to="a"),
        node("Gather", "u", ints(1).reshape(()), axis=0, to="b"),
        node("Concat", "b", "a", axis=1),
    ],
    "shapes": [
        node("Shape", "x", to="s"),
        node("Slice", "s", ints(2), ints(4), to="side"),
        node("Gather", "s", ints(1).reshape(()), to="c"),
        node("Unsqueeze", "c", ints(0), to="cs"),
        node("Constant", to="two", value=numpy_helper.from_array(ints(2))),
        node("Div", "side", "two", to="half"),
        ("Cast", ("half",), ["h"], {"to": TensorProto.INT64}),
        node("Concat", ints(1), "cs", "h", axis=0, to="sizes"),
        node("Resize", "x", "", "", "sizes", mode="linear"),
    ],
}  # fmt: skip


def build(path, lines, opset=14, shape=SHAPE):
    """Writes the graph of these lines, from x to y."""
    constants, nodes = [], []
    for kind, inputs, outputs, attributes in lines:
        names = []
        for value in inputs:
            if not isinstance(value, str):
                constants.append(numpy_helper.from_array(value, f"c{len(constants)}"))
                value = constants[-1].name
            names.append(value)
        nodes.append(helper.make_node(kind, names, outputs, **attributes))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    model.graph.output[0].type.tensor_type.shape.SetInParent()  # the checker wants one
    onnx.save(model, path)
    return path


def reference(path, images):
    """What onnxruntime says of each image by itself: per output one array per image."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    said = [session.run(None, {name: images[i : i + 1]}) for i in range(len(images))]
    return list(zip(*said, strict=True))


def check(path, images, within):
    module = OnnxModule.load(path)
    wanted = reference(path, images)
    for count in (1, len(images)):
        with torch.no_grad():
            given = module(torch.from_numpy(images[:count]))
        assert len(given) == len(wanted)
        for output, singles in zip(given, wanted, strict=True):
            join = np.concatenate if singles[0].shape[:1] == (1,) else np.stack
            expected = join(singles[:count])
            assert output.shape == expected.shape
            scale = max(1.0, np.abs(expected).max())
            assert np.abs(output.numpy() - expected).max() <= within * scale


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_as_in_onnxruntime_for_one_image_and_for_three(name, tmp_path):
    images = np.random.default_rng(1).normal(0, 2, (3, *SHAPE[1:])).astype(np.float32)
    check(build(tmp_path / "m.onnx", CASES[name]), images, 1e-6)


@pytest.mark.parametrize("axis", [1, -1])
def test_operators_of_older_files_are_as_in_onnxruntime(axis, tmp_path):
    lines = [
        node("Split", "x", axis=1, split=[3, 1], to=["a", "b"]),
        node("Softmax", "a", axis=axis, to="s"),
        node("Unsqueeze", "s", axes=[1], to="u"),
        node("Squeeze", "u", axes=[1]),
    ]
    images = np.random.default_rng(1).normal(0, 2, (3, *SHAPE[1:])).astype(np.float32)
    check(build(tmp_path / "m.onnx", lines, opset=11), images, 1e-6)


def test_every_operator_has_a_case():
    used = {kind for lines in CASES.values() for kind, *_ in lines}
    assert OPERATORS.keys() - used == {"Silu", "OldSoftmax"}  # what this makes of others


@pytest.mark.parametrize("name", ["norm_folded", "norm_folded_unbiased"])
def test_batch_normalization_goes_into_the_convolution(name, tmp_path):
    module = OnnxModule.load(build(tmp_path / "m.onnx", CASES[name]))
    assert len(list(module.buffers())) == 2


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"concat_first", "shapes"}))
def test_gradients_are_those_of_finite_differences(name, tmp_path):
    module = OnnxModule.load(build(tmp_path / "m.onnx", CASES[name])).double()
    x = torch.randn(2, *SHAPE[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(module, x.requires_grad_(), fast_mode=True)


def test_weights_are_fixed_and_gradients_of_an_image_are_its_own(tmp_path):
    module = OnnxModule.load(build(tmp_path / "m.onnx", CASES["shuffle_without_batch"]))
    x = torch.ones(3, *SHAPE[1:], requires_grad=True)
    module(x)[0][1].sum().backward()
    assert not list(module.parameters())
    assert not any(value.requires_grad for value in module.buffers())
    assert x.grad[1].eq(1).all() and x.grad[[0, 2]].eq(0).all()


def test_it_says_the_size_and_refuses_another(tmp_path):
    module = OnnxModule.load(build(tmp_path / "m.onnx", CASES["relu"]))
    assert module.input_size == (8, 6)
    for shape in [(1, 4, 8, 6), (4, 6, 8), (0, 4, 6, 8)]:
        with pytest.raises(InputError, match="give them as"):
            module(torch.zeros(shape))


REFUSED = {
    "unknown operator Erf": [node("Erf", "x")],
    "Resize y: nearest, half_pixel": [node("Resize", "x", "", floats(1, 1, 2, 2))],
    "Conv y: auto_pad SAME_UPPER": [node("Conv", "x", WEIGHT, auto_pad="SAME_UPPER")],
    "Pad y: mode edge": [node("Pad", "x", ints(*[0] * 8), mode="edge")],
    "AveragePool y: pads": [node("AveragePool", "x", **WINDOW, pads=[0, 0, 1, 1])],
    "Reshape y: shape": [node("Reshape", "x", ints(1, 7))],
    "Split a: no sizes": [node("Split", "x", axis=1, to=["a", "y"])],
    "MaxPool y: .*storage_order": [node("MaxPool", "x", **WINDOW, storage_order=1)],
    "output does not depend": [node("Constant", value=numpy_helper.from_array(floats(1)))],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_cannot_follow_is_refused_by_name_with_a_remedy(reason, tmp_path):
    path = build(tmp_path / "m.onnx", REFUSED[reason])
    with pytest.raises(InputError, match=f"m.onnx: .*{reason}.*; export it .* or add them there"):
        OnnxModule.load(path)


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (1, 4, "h", 8), (1, 4, 6), (1, 4, 6, 1 << 20)])
def test_files_without_one_image_of_fixed_size_are_refused(shape, tmp_path):
    with pytest.raises(InputError, match="image"):
        OnnxModule.load(build(tmp_path / "m.onnx", CASES["relu"], shape=shape))


def test_files_that_are_no_model_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        OnnxModule.load(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match=r"bad\.onnx"):
        OnnxModule.load(tmp_path / "bad.onnx")
    path = build(tmp_path / "old.onnx", CASES["relu"], opset=9)
    with pytest.raises(InputError, match="opset 9"):
        OnnxModule.load(path)
    monkeypatch.setattr("isp.train_onnx.MAX_MODEL_BYTES", 10)
    with pytest.raises(InputError, match="is no model for this"):
        OnnxModule.load(path)


def test_weights_in_another_file_are_refused(tmp_path):
    path = build(tmp_path / "m.onnx", CASES["convolution"])
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="w.bin")
    with pytest.raises(InputError, match=r"m\.onnx"):
        OnnxModule.load(path)


@pytest.mark.parametrize("parts", MODELS, ids=lambda parts: parts[1])
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_a_network_is_as_in_onnxruntime_for_one_image_and_for_three(parts, kind):
    path = find_data("models", *parts)
    if path is None:
        pytest.skip(f"no models/{'/'.join(parts)}; set LEADSIGHT_DATA")
    width, height = OnnxModule.load(path).input_size
    rng = np.random.default_rng(3)
    cells = {"noise": (height, width), "smooth": (9, 9)}[kind]
    coarse = torch.from_numpy(rng.uniform(0, 255, (3, 3, *cells)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").numpy()
    check(path, images, 5e-5)
