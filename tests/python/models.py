# SPDX-License-Identifier: Apache-2.0
"""Tiny ONNX models, made when asked for."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ONNX_TYPES = {
    "boolean": TensorProto.BOOL, "bf16": TensorProto.BFLOAT16, "f16": TensorProto.FLOAT16, "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE, "f8e4m3": TensorProto.FLOAT8E4M3FN, "f8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "f8e5m2": TensorProto.FLOAT8E5M2, "f8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ, "f4e2m1": TensorProto.FLOAT4E2M1,
    "i4": TensorProto.INT4, "i8": TensorProto.INT8, "i16": TensorProto.INT16, "i32": TensorProto.INT32, "i64": TensorProto.INT64,
    "u4": TensorProto.UINT4, "u8": TensorProto.UINT8, "u16": TensorProto.UINT16, "u32": TensorProto.UINT32, "u64": TensorProto.UINT64,
    "complex64": TensorProto.COMPLEX64, "complex128": TensorProto.COMPLEX128, "string": TensorProto.STRING,
}  # fmt: skip


def value(name, type_name, shape):
    return helper.make_tensor_value_info(name, ONNX_TYPES[type_name], shape)


def model(nodes, inputs, outputs, initializers=(), opset=21, name="test"):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def identity(type_name="f32", shape=("n",)):
    """y = x"""
    return model([helper.make_node("Identity", ["x"], ["y"])], [value("x", type_name, shape)], [value("y", type_name, shape)])


def add(shape=(2, 3), type_name="f32"):
    """sum = a + b"""
    return model(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [value("a", type_name, shape), value("b", type_name, shape)],
        [value("sum", type_name, shape)],
    )


def sub_and_mul():
    """Two outputs, in an order that no sorting gives: difference = z - a, product = z * a; inputs z, a."""
    return model(
        [helper.make_node("Sub", ["z", "a"], ["z_minus_a"]), helper.make_node("Mul", ["z", "a"], ["a_product"])],
        [value("z", "f32", ["n"]), value("a", "f32", ["n"])],
        [value("z_minus_a", "f32", ["n"]), value("a_product", "f32", ["n"])],
    )


def odd_names():
    """An input whose name is no Python name, and one named as an option of the call."""
    return model(
        [helper.make_node("Add", ["input.1", "timeout_ms"], ["out:0"])],
        [value("input.1", "f32", [2]), value("timeout_ms", "f32", [2])],
        [value("out:0", "f32", [2])],
    )


def with_default():
    """y = x + bias, where bias has a default of 10 and may be left out."""
    default = helper.make_tensor("bias", TensorProto.FLOAT, [1], [10.0])
    return model(
        [helper.make_node("Add", ["x", "bias"], ["y"])],
        [value("x", "f32", [3]), value("bias", "f32", [1])],
        [value("y", "f32", [3])],
        [default],
    )


def zero():
    """y = x - x: what a backend that computes nothing gets right."""
    return model([helper.make_node("Sub", ["x", "x"], ["y"])], [value("x", "f32", [4])], [value("y", "f32", [4])])


def matmuls(count=24, size=192):
    """Work for some milliseconds: x @ w @ w …, with w the identity matrix, so y = x."""
    names = ["x"] + [f"h{i}" for i in range(count - 1)] + ["y"]
    nodes = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(count)]
    weights = numpy_helper.from_array(np.eye(size, dtype=np.float32), "w")
    return model(nodes, [value("x", "f32", [size, size])], [value("y", "f32", [size, size])], [weights])


FIRST_FAULT = 100  # deploying executes the model less often than that
LAST_FAULT = 400


def late(point, duration=""):
    """A value of AI_VMM_NULL_FAULT: the fault strikes from the FIRST_FAULT-th execution on, so that deploying succeeds."""
    return ",".join(f"{point}:{call}{duration and ':' + duration}" for call in range(FIRST_FAULT, LAST_FAULT))


def deploy_null(vmm, **constraints):
    """A deployment of zero() on the null backend."""
    return vmm.deploy(zero().SerializeToString(), {"tune_ms": 0, "precision": "f32", "engines": ["null"], **constraints})


def use_up(model):
    """Executes until the fault strikes: a stall ends by the timeout, a failure by its error."""
    import ai_vmm

    for _ in range(LAST_FAULT):
        try:
            model(np.ones(4, np.float32), timeout_ms=20)
        except (ai_vmm.DeadlineExceededError, ai_vmm.InternalError):
            return model
    raise AssertionError("the fault never struck")
