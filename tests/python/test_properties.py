# SPDX-License-Identifier: Apache-2.0
"""Property tests: what goes in comes out, for every element type, shape and layout."""

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ai_vmm
import models
from ai_vmm._types import DTYPES, PACKED_DTYPES

ALL_DTYPES = {**DTYPES, **PACKED_DTYPES}
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def bits(array):
    """The element bytes, so that NaN equals itself."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@st.composite
def arrays(draw, name):
    """An array of any bits of that type, in any of several layouts."""
    dtype = ALL_DTYPES[name]
    shape = draw(SHAPES)
    count = int(np.prod(shape, dtype=int))
    if name == "boolean":
        limit = 1
    elif name in PACKED_DTYPES:
        limit = 3 if name[1] == "2" else 15
    else:
        limit = 255
    raw = draw(hnp.arrays(np.uint8, count * dtype.itemsize, elements=st.integers(0, limit)))
    array = raw.view(dtype).reshape(shape)
    layout = draw(st.sampled_from(["plain", "fortran", "reversed", "stepped", "swapped"]))
    if layout == "fortran":
        array = np.asfortranarray(array)
    elif layout == "reversed":
        array = array[tuple(slice(None, None, -1) for _ in shape)]
    elif layout == "stepped" and shape:
        wide = np.zeros((*shape[:-1], shape[-1] * 2), dtype)
        wide[..., ::2] = array
        array = wide[..., ::2]
    elif layout == "swapped" and dtype.isbuiltin == 1:
        array = array.astype(dtype.newbyteorder(">"))
        assume(bits(array.astype(dtype)).tolist() == bits(array.astype(array.dtype.newbyteorder("="))).tolist())
    return array


def native(array):
    return array.astype(array.dtype.newbyteorder("=")) if array.dtype.byteorder not in "=|" else array


@pytest.mark.parametrize("name", ALL_DTYPES)
def test_tensor_round_trip(name):
    @SETTINGS
    @given(arrays(name))
    def check(array):
        tensor = ai_vmm.Tensor(array)
        back = tensor.numpy()
        assert tensor.type == name and tensor.shape == array.shape == back.shape and back.dtype == ALL_DTYPES[name]
        assert np.array_equal(bits(back), bits(native(array)))
        assert ai_vmm.Tensor.from_bytes(name, list(array.shape), tensor.tobytes()).tobytes() == tensor.tobytes()

    check()


@SETTINGS
@given(SHAPES.flatmap(lambda shape: hnp.arrays(object, shape, elements=TEXT)))
def test_string_round_trip(array):
    assert ai_vmm.Tensor(array).numpy().tolist() == array.tolist()
    assert ai_vmm.Tensor(array.astype(str)).numpy().tolist() == array.tolist()


# Every type that an engine executes Identity on. Without: complex numbers, which neither engine has, and the packed types, for which
# the CPU plugin of OpenVINO 2026.4.1 writes a byte per element, past the end of the output.
NO_ENGINE = ("complex64", "complex128")
IDENTITY_TYPES = [name for name in models.ONNX_TYPES if name not in (*NO_ENGINE, *PACKED_DTYPES)]


@functools.lru_cache(maxsize=None)
def deployed(deploy, name, rank):
    shape = [f"d{i}" for i in range(rank)]
    return deploy(models.identity(name, shape), precision="f32")


@pytest.mark.parametrize("name", [name for name in IDENTITY_TYPES if name != "string"])
def test_identity_model(deploy, name):
    def values(array):  # as numbers: an engine may quieten a signalling NaN
        wide = native(array)
        return wide.astype(np.complex128 if name.startswith("complex") else np.float64) if wide.dtype.kind not in "iub" else wide

    @settings(SETTINGS, max_examples=25)
    @given(arrays(name))
    def check(array):
        with np.errstate(all="ignore"):
            model = deployed(deploy, name, array.ndim)
            y = model(array)
            assert y.dtype == ALL_DTYPES[name] and y.shape == array.shape
            assert np.array_equal(values(y), values(array), equal_nan=np.asarray(values(array)).dtype.kind == "f")
            assert model.execute({"x": ai_vmm.Tensor(array)}, returns="tensor")["y"].type == name

    check()


def test_identity_model_of_strings(deploy):
    @settings(SETTINGS, max_examples=25)
    @given(st.lists(TEXT, max_size=5))
    def check(texts):
        model = deployed(deploy, "string", 1)
        for x in (texts, np.array(texts, dtype=object), np.array(texts, dtype=str)):
            y = model({"x": x})
            assert y.dtype == object and y.tolist() == texts

    check()
