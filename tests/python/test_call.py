# SPDX-License-Identifier: Apache-2.0
"""Calling a deployment: forms of inputs and outputs, copies, errors of the caller."""

import collections

import numpy as np
import pytest

import ai_vmm
import models
from ai_vmm import InvalidArgumentError


def address(value):
    return value.__array_interface__["data"][0]


A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.full((2, 3), 10, dtype=np.float32)


@pytest.fixture(scope="module")
def adder(deploy):
    return deploy(models.add())


@pytest.fixture(scope="module")
def two(deploy):
    return deploy(models.sub_and_mul())


def test_every_form_of_inputs(adder):
    forms = [
        adder(A, B), adder(A, b=B), adder(a=A, b=B), adder(b=B, a=A), adder({"b": B, "a": A}), adder(collections.ChainMap({"a": A}, {"b": B})),
        adder({"a": A}, b=B), adder(A.tolist(), B), adder(ai_vmm.Tensor(A), B),
    ]  # fmt: skip
    for y in forms:
        assert isinstance(y, np.ndarray) and y.dtype == np.float32 and np.array_equal(y, A + B)


def test_one_output_is_the_value_and_execute_is_a_dict(adder):
    assert list(adder.execute({"a": A, "b": B})) == ["sum"]


def test_several_outputs_are_a_dict_in_the_files_order(two):
    z, a = np.array([5, 7], np.float32), np.array([2, 3], np.float32)
    assert [info.name for info in two.inputs] == ["z", "a"]
    outputs = two(z, a)
    assert list(outputs) == ["z_minus_a", "a_product"] == [info.name for info in two.outputs]
    assert outputs["z_minus_a"].tolist() == [3, 4] and outputs["a_product"].tolist() == [10, 21]
    assert list(two.execute({"a": a, "z": z})) == ["z_minus_a", "a_product"]


def test_names_that_python_does_not_allow(deploy):
    model = deploy(models.odd_names())
    ones = np.ones(2, np.float32)
    assert [info.name for info in model.inputs] == ["input.1", "timeout_ms"] and model.outputs[0].name == "out:0"
    assert model({"input.1": ones, "timeout_ms": ones}).tolist() == [2, 2]
    assert model(ones, ones, timeout_ms=60000).tolist() == [2, 2]


def test_optional_inputs(deploy):
    model = deploy(models.with_default())
    x = np.zeros(3, np.float32)
    optional = {info.name: info.optional for info in model.inputs}
    assert optional["x"] is False
    if "bias" not in optional:
        pytest.skip("the reader takes initializers for constants")
    assert optional["bias"] is True
    ten = np.array([5], np.float32)
    assert model(x).tolist() == [10, 10, 10] == model(x, None).tolist()
    assert model(x, ten).tolist() == [5, 5, 5] == model({"x": x, "bias": ten}).tolist()
    out = np.empty(3, np.float32)
    assert model.execute_into({"x": x}, out)["y"] is out and out.tolist() == [10, 10, 10]


def test_outputs_own_their_memory(adder):
    first = adder(A, B)
    kept = first.copy()
    second = adder(B, B)
    assert address(first) != address(second) and np.array_equal(first, kept)
    assert first.flags.writeable and first.flags.c_contiguous
    first[:] = -1
    assert np.array_equal(adder(A, B), A + B)


def test_tensors_on_request(adder, two):
    y = adder(A, B, returns="tensor")
    assert isinstance(y, ai_vmm.Tensor) and not y.readonly and y.shape == (2, 3)
    assert address(np.from_dlpack(y)) == y.data_ptr == address(y.numpy())
    assert all(isinstance(value, ai_vmm.Tensor) for value in two.execute({"z": A[0], "a": A[0]}, returns="tensor").values())
    assert np.array_equal(adder(y, B), A + 2 * B)
    with pytest.raises(InvalidArgumentError, match="'numpy' or 'tensor'"):
        adder(A, B, returns="torch")


def test_inputs_of_any_layout_give_the_same(adder):
    wide = np.zeros((4, 6), np.float32)
    wide[::2, ::2] = A
    for a in (np.asfortranarray(A), wide[::2, ::2], A.astype(">f4"), A[:, ::-1][:, ::-1]):
        assert np.array_equal(adder(a, B), A + B)
    frozen = A.copy()
    frozen.flags.writeable = False
    assert np.array_equal(adder(frozen, B), A + B)


def test_execute_into_writes_in_place(adder, two):
    out = np.full((2, 3), np.nan, np.float32)
    result = adder.execute_into({"a": A, "b": B}, out)
    assert result["sum"] is out and np.array_equal(out, A + B)
    adder.execute_into({"a": B, "b": B}, {"sum": out})
    assert np.array_equal(out, B + B)
    tensor = ai_vmm.Tensor.zeros("f32", [2, 3])
    assert adder.execute_into({"a": A, "b": B}, [tensor])["sum"] is tensor and np.array_equal(tensor.numpy(), A + B)

    z = np.array([1, 2], np.float32)
    product = np.empty(2, np.float32)
    result = two.execute_into({"z": z, "a": z}, {"a_product": product})
    assert list(result) == ["z_minus_a", "a_product"] and result["a_product"] is product
    assert product.tolist() == [1, 4] and result["z_minus_a"].tolist() == [0, 0]
    assert two.execute_into({"z": z, "a": z}, [None, product])["z_minus_a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "out",
    [np.empty((2, 3)), np.empty((3, 2), np.float32).T, np.empty((2, 2), np.float32), np.empty((2, 3), ">f4"), [[0] * 3] * 2, "sum"],
    ids=["dtype", "layout", "shape", "byte order", "list", "str"],
)
def test_execute_into_refuses_what_it_cannot_write(adder, out):
    with pytest.raises(InvalidArgumentError, match="sum"):
        adder.execute_into({"a": A, "b": B}, {"sum": out})


def test_execute_into_refuses_read_only_memory_and_unknown_names(adder):
    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    for out in (frozen, ai_vmm.Tensor(frozen)):
        with pytest.raises(InvalidArgumentError):
            adder.execute_into({"a": A, "b": B}, [out])
    assert not frozen.any()
    with pytest.raises(InvalidArgumentError, match="no output 'total'"):
        adder.execute_into({"a": A, "b": B}, {"total": np.empty((2, 3), np.float32)})
    with pytest.raises(InvalidArgumentError, match="too many"):
        adder.execute_into({"a": A, "b": B}, [None, None])
    with pytest.raises(InvalidArgumentError, match="missing"):
        adder.execute_into({"a": A}, [None])


def test_batch(adder, deploy):
    results = adder.execute_batch([{"a": A * i, "b": B} for i in range(5)])
    assert [list(result) for result in results] == [["sum"]] * 5
    for i, result in enumerate(results):
        assert np.array_equal(result["sum"], A * i + B)
    assert adder.execute_batch([]) == []
    one = deploy(models.identity())
    xs = [np.full(i, i, np.float32) for i in range(1, 5)]
    assert [y["y"].tolist() for y in one.execute_batch(iter(xs))] == [x.tolist() for x in xs]
    with pytest.raises(InvalidArgumentError, match="missing"):
        adder.execute_batch([{"a": A, "b": B}, {"a": A}])


@pytest.mark.parametrize(
    "args, inputs, words",
    [
        ((A,), {}, ["'b'", "missing"]),
        ((), {}, ["'a'"]),
        ((A, B, B), {}, ["too many", "2", "3"]),
        ((A, B), {"a": A}, ["'a'", "twice"]),
        ((A, B), {"c": A}, ["'c'"]),
        (({"a": A, "b": B, "c": B},), {}, ["'c'", "'a', 'b'"]),
        (({"a": A, 3: B},), {}, ["not text", "3"]),
        ((A, B.astype(np.float64)), {}, ["'b'", "f32", "f64"]),
        ((A, ai_vmm.Tensor(B.astype(np.int32))), {}, ["'b'", "f32", "i32"]),
        ((A, B[0]), {}, ["'b'", "[2,3]", "[3]"]),
        ((A, np.zeros((2, 3, 1), np.float32)), {}, ["'b'", "[2,3]"]),
        ((A, None), {}, ["'b'", "None"]),
        ((A, "text"), {}, ["'b'", "f32"]),
        ((A, [[1, 2, 3], [4, 5]]), {}, ["'b'", "rectangular"]),
        ((A, [[1, 2, 3], [4, 5, "x"]]), {}, ["'b'"]),
    ],
)
def test_wrong_inputs_are_named(adder, args, inputs, words):
    with pytest.raises(InvalidArgumentError) as caught:
        adder(*args, **inputs)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_wrong_timeouts(adder, timeout):
    with pytest.raises(InvalidArgumentError):
        adder(A, B, timeout_ms=timeout)


def test_far_timeouts(adder):
    assert np.array_equal(adder(A, B, timeout_ms=float("inf")), A + B)
    assert np.array_equal(adder(A, B, timeout_ms=1e300), A + B)


def test_dlpack_inputs(adder):
    class Foreign:
        def __init__(self, values):
            self.values = values

        def __dlpack__(self, **options):
            return self.values.__dlpack__(**options)

        def __dlpack_device__(self):
            return (1, 0)

    assert np.array_equal(adder(Foreign(A), Foreign(B)), A + B)
    with pytest.raises(InvalidArgumentError, match="'b'"):
        adder(A, Foreign(B.astype(np.float64)))


def test_repr_and_infos(adder, deploy):
    assert repr(adder) == "<ai_vmm.Deployment (a: f32[2,3], b: f32[2,3]) -> (sum: f32[2,3])>"
    info = adder.inputs[0]
    assert (info.name, info.type, info.shape, info.dtype, info.is_dynamic) == ("a", "f32", (2, 3), np.float32, False)
    dynamic = deploy(models.identity()).inputs[0]
    assert dynamic.shape == (-1,) and dynamic.is_dynamic
