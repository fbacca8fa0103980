"""Small graphs in ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def doubling(path: Path) -> Path:
    """Write a graph that doubles a float matrix ``x`` into ``y``."""
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    shape = ["rows", "columns"]
    graph = helper.make_graph(
        [node],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [two],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def in_eight_bits(folder: Path) -> None:
    """Write 8-bit graphs beside those of an export."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in ("text_model", "vision_model"):
        graph = folder / "onnx" / f"{name}.onnx"
        quantize_dynamic(
            graph, graph.with_name(f"{name}_quantized.onnx"), weight_type=QuantType.QUInt8
        )


def in_sixteen_bits(folder: Path) -> None:
    """Write 16-bit graphs beside those of an export, with inputs and outputs of 16 bits."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for name in ("text_model", "vision_model"):
        graph = folder / "onnx" / f"{name}.onnx"
        model = convert_float_to_float16(onnx.load(graph), keep_io_types=False)
        onnx.save(model, graph.with_name(f"{name}_fp16.onnx"))


def as_immich(folder: Path, target: Path, length: int) -> Path:
    """Write an export of a CLIP in immich's layout: 32-bit ids of a fixed length, no mask."""
    config = json.loads((folder / "config.json").read_text())
    for place in (target / "textual", target / "visual"):
        place.mkdir(parents=True)
    model = onnx.load(folder / "onnx" / "text_model.onnx")
    graph = model.graph
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("text", TensorProto.INT32, ["batch", length]))
    ones = numpy_helper.from_array(np.ones(1, np.int64), "one")
    graph.initializer.append(ones)
    first = [
        helper.make_node("Cast", ["text"], ["input_ids"], to=TensorProto.INT64),
        helper.make_node("Shape", ["input_ids"], ["ids_shape"]),
        helper.make_node("Expand", ["one", "ids_shape"], ["attention_mask"]),
    ]
    for node in reversed(first):
        graph.node.insert(0, node)
    onnx.save(model, target / "textual" / "model.onnx")
    model = onnx.load(folder / "onnx" / "vision_model.onnx")
    for node in model.graph.node:
        node.input[:] = ["image" if name == "pixel_values" else name for name in node.input]
    model.graph.input[0].name = "image"
    onnx.save(model, target / "visual" / "model.onnx")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (target / "textual" / name).write_bytes((folder / name).read_bytes())
    side = config["vision_config"]["image_size"]
    pixels = {"size": [side, side], "mode": "RGB", "mean": [0.5] * 3, "std": [0.25] * 3,
              "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}  # fmt: skip
    (target / "visual" / "preprocess_cfg.json").write_text(json.dumps(pixels))
    shape = {"embed_dim": config["projection_dim"], "vision_cfg": {"image_size": side},
             "text_cfg": {"context_length": length, "vocab_size": 512}}  # fmt: skip
    (target / "config.json").write_text(json.dumps(shape))
    return target
