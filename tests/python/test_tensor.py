# SPDX-License-Identifier: Apache-2.0
"""ai_vmm.Tensor: what is borrowed, what is copied, what is refused."""

import array
import ctypes
import gc
import weakref

import numpy as np
import pytest

import ai_vmm
from ai_vmm import InvalidArgumentError, Tensor
from ai_vmm._types import DTYPES, PACKED_DTYPES, element_type

ml_dtypes = pytest.importorskip("ml_dtypes")


def address(value):
    return value.__array_interface__["data"][0]


def sample(dtype, count=7):
    """Values that every type has."""
    return np.resize(np.array([1, 0, 1, 1]), count).astype(dtype)


@pytest.mark.parametrize("name", DTYPES)
def test_whole_byte_types_share_memory_both_ways(name):
    values = sample(DTYPES[name]).reshape(7, 1)
    tensor = Tensor(values)
    assert (tensor.type, tensor.shape, tensor.ndim, tensor.size) == (name, (7, 1), 2, 7)
    assert tensor.nbytes == values.nbytes and tensor.dtype == values.dtype and not tensor.owns_memory
    back = tensor.numpy()
    assert back.dtype == values.dtype and back.shape == (7, 1)
    assert address(back) == tensor.data_ptr == address(values)
    assert np.asarray(tensor).dtype == values.dtype
    assert np.array_equal(back.view(np.uint8), values.view(np.uint8))


@pytest.mark.parametrize("name", PACKED_DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8])
def test_packed_types_round_trip(name, count):
    values = sample(PACKED_DTYPES[name], count)
    tensor = Tensor(values)
    bits = {"i2": 2, "u2": 2}.get(name, 4)
    assert tensor.type == name and tensor.nbytes == (count * bits + 7) // 8
    assert np.array_equal(tensor.numpy().astype(np.float32), values.astype(np.float32))


def test_packed_types_have_the_first_element_in_the_low_bits():
    assert Tensor(np.array([1, 2, 3]).astype(ml_dtypes.uint4)).tobytes() == bytes([0x21, 0x03])
    assert Tensor(np.array([-1, 7]).astype(ml_dtypes.int4)).tobytes() == bytes([0x7F])
    assert Tensor.from_bytes("i4", [2], bytes([0x7F])).numpy().astype(int).tolist() == [-1, 7]
    assert Tensor(np.array([-2, 1, 0, -1]).astype(ml_dtypes.int2)).tobytes() == bytes([0b11000110])


def test_types_that_numpy_lacks_stay_tensors():
    tensor = Tensor.from_bytes("nf4", [3], b"\x21\x03")
    assert tensor.numpy() is tensor and tensor.tobytes() == b"\x21\x03"
    with pytest.raises(InvalidArgumentError, match="no NumPy form"):
        np.asarray(tensor)


def test_strings():
    texts = np.array([["a", "zwölf"], ["", "\U0001f600 x"]])
    for values in (texts, texts.astype(object), texts.tolist()):
        tensor = Tensor(values)
        assert tensor.type == "string" and tensor.shape == (2, 2)
        assert tensor.numpy().dtype == object and tensor.numpy().tolist() == texts.tolist()
    assert Tensor("word").shape == () and Tensor("word").numpy().item() == "word"
    assert Tensor([b"\xff\x00"]).numpy()[0].encode("utf-8", "surrogateescape") == b"\xff\x00"
    assert Tensor(Tensor([b"\xff"]).numpy()).numpy()[0] == "\udcff"
    if hasattr(np.dtypes, "StringDType"):
        assert Tensor(np.array(["x", "yy"], dtype=np.dtypes.StringDType())).numpy().tolist() == ["x", "yy"]
    with pytest.raises(InvalidArgumentError, match="not text"):
        Tensor(np.array(["a", 1], dtype=object))
    with pytest.raises(InvalidArgumentError):
        Tensor(["a"]).tobytes()
    with pytest.raises(BufferError):
        memoryview(Tensor(["a"]))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(12, dtype=np.int16)[::2],
        np.arange(12, dtype=np.int64)[::-1],
        np.arange(4, dtype=">i4"),
        np.arange(4, dtype=">f8").reshape(2, 2).T,
        np.frombuffer(bytes(range(17)), dtype=np.uint8)[1:].view(np.int32),  # misaligned
        np.broadcast_to(np.float32(3), (2, 2)),
        np.array([1, 2, 3], dtype=ml_dtypes.bfloat16)[::2],
    ],
    ids=["transposed", "stepped", "reversed", "big-endian", "big-endian transposed", "misaligned", "broadcast", "bf16 stepped"],
)
def test_other_layouts_are_copied(values):
    tensor = Tensor(values)
    assert tensor.data_ptr != address(values)
    assert np.array_equal(tensor.numpy(), values) and tensor.type == element_type(values.dtype)


def test_arrays_of_rank_and_size_zero():
    assert Tensor(np.float32(3)).shape == () and Tensor(np.array(3, dtype=np.int64)).numpy().shape == ()
    for shape in [(0,), (2, 0, 3)]:
        tensor = Tensor(np.empty(shape, np.float32))
        assert tensor.shape == shape and tensor.nbytes == 0 and tensor.numpy().shape == shape
        assert np.from_dlpack(tensor).shape == shape


def test_buffers_and_array_likes():
    assert Tensor(array.array("d", [1, 2])).type == "f64"
    assert Tensor(memoryview(b"abc")).numpy().tolist() == [97, 98, 99]
    assert Tensor(bytearray(b"abc")).type == "u8"

    class ArrayLike:
        def __array__(self, dtype=None, copy=None):
            return np.ones(2, np.float32)

    assert Tensor(ArrayLike()).type == "f32"

    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no luck")

    with pytest.raises(InvalidArgumentError, match="no luck"):
        Tensor(Broken())


@pytest.mark.parametrize("name", ["f32", "f64", "i8", "u64", "boolean", "f16", "complex64"])
def test_dlpack_with_numpy_shares_memory(name):
    values = sample(DTYPES[name])
    tensor = Tensor(values)
    assert tensor.__dlpack_device__() == (1, 0)
    assert address(np.from_dlpack(tensor)) == address(values)

    class Foreign:  # nothing but DLPack
        def __dlpack__(self, **options):
            return values.__dlpack__(**options)

        def __dlpack_device__(self):
            return values.__dlpack_device__()

    taken = Tensor(Foreign())
    assert taken.type == name and taken.data_ptr == address(values)


def test_dlpack_of_other_layouts_is_copied():
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)[:, ::-1, ::2]

    class Foreign:
        def __dlpack__(self, **options):
            return values.__dlpack__(**options)

        def __dlpack_device__(self):
            return values.__dlpack_device__()

    assert np.array_equal(Tensor(Foreign()).numpy(), values)


def test_dlpack_refuses_memory_that_no_backend_reads():
    class OnDevice:
        def __dlpack__(self, **options):
            raise AssertionError("must not be asked")

        def __dlpack_device__(self):
            return (8, 1)

    with pytest.raises(InvalidArgumentError, match="neither in host memory nor.*metal:1.*cpu()"):
        Tensor(OnDevice())


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _DLManagedTensor(ctypes.Structure):
    _fields_ = [("dl_tensor", _DLTensor), ("manager_ctx", ctypes.c_void_p), ("deleter", _Deleter)]


class InGpuMemory:
    """f32 of shape [2, 3] that says it lies on the GPU 1; nothing reads the address."""

    def __init__(self, strides=(3, 1), address=4096):
        self.deleted = 0

        def delete(_):
            self.deleted += 1

        self._deleter = _Deleter(delete)
        self._shape = (ctypes.c_int64 * 2)(2, 3)
        self._strides = (ctypes.c_int64 * 2)(*strides)
        self._managed = _DLManagedTensor(_DLTensor(address, 2, 1, 2, 2, 32, 1, self._shape, self._strides, 0), None, self._deleter)

    def __dlpack__(self, **options):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self._managed), b"dltensor", None)

    def __dlpack_device__(self):
        return (2, 1)


def test_memory_of_a_gpu_is_taken_over_and_given_away_where_it_is():
    foreign = InGpuMemory()
    tensor = Tensor(foreign)
    assert tensor.place == "cuda:1" and tensor.shape == (2, 3) and tensor.type == "f32" and tensor.data_ptr == 4096
    assert "cuda:1" in repr(tensor) and Tensor([1.0]).place == "host"
    assert tensor.__dlpack_device__() == (2, 1)
    again = Tensor(tensor.reshaped([6]))
    assert again.place == "cuda:1"
    capsule = tensor.__dlpack__(stream=1, max_version=(1, 0))
    assert "dltensor_versioned" in repr(capsule)
    for refused in (lambda: tensor.__dlpack__(dl_device=(1, 0)), lambda: tensor.__dlpack__(copy=True), lambda: memoryview(tensor)):
        with pytest.raises(BufferError):
            refused()
    for refused in (tensor.numpy, tensor.tobytes, tensor.clone, lambda: np.asarray(tensor)):
        with pytest.raises(InvalidArgumentError, match="not in host memory"):
            refused()
    del tensor, again, capsule, refused
    gc.collect()
    assert foreign.deleted == 1


def test_gaps_in_a_gpus_memory_are_refused():
    with pytest.raises(InvalidArgumentError, match="not contiguous.*contiguous\\(\\)"):
        Tensor(InGpuMemory(strides=(6, 2)))
    with pytest.raises(InvalidArgumentError, match="not contiguous"):
        Tensor(InGpuMemory(address=4097))


def test_copies_between_places(vmm):
    tensor = Tensor([1.0, 2.0])
    assert vmm.copy(tensor).data_ptr == tensor.data_ptr
    for place in ("gpu", "cuda", "cuda:", "cuda:-1", "cuda:x", None):
        with pytest.raises(InvalidArgumentError, match="no such place"):
            vmm.copy(tensor, place)
    with pytest.raises((ai_vmm.UnimplementedError, InvalidArgumentError)):
        vmm.copy(tensor, "cuda:99999")


def test_dlpack_reports_the_reason_of_an_object_that_refuses():
    class Refusing:
        def __dlpack__(self, **options):
            raise BufferError("requires grad")

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(InvalidArgumentError, match="requires grad"):
        Tensor(Refusing())


def test_dlpack_export_options():
    tensor = Tensor(np.arange(3, dtype=np.float32))
    copied = np.from_dlpack(tensor, copy=True)
    assert address(copied) != tensor.data_ptr and copied.tolist() == [0, 1, 2]
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError):
        Tensor.from_bytes("i4", [1], b"\0").__dlpack__()
    with pytest.raises(BufferError):
        Tensor(["a"]).__dlpack__()


def test_read_only_memory_stays_read_only():
    values = np.arange(3, dtype=np.float32)
    values.flags.writeable = False
    tensor = Tensor(values)
    assert tensor.readonly and not tensor.numpy().flags.writeable and address(tensor.numpy()) == address(values)
    with pytest.raises(BufferError):
        tensor.__dlpack__()  # a consumer that can't be told
    assert not np.from_dlpack(tensor).flags.writeable


def test_array_protocol():
    tensor = Tensor(np.arange(3, dtype=np.float32))
    assert address(np.asarray(tensor)) == tensor.data_ptr
    assert address(np.array(tensor)) != tensor.data_ptr
    assert np.asarray(tensor, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError):
        tensor.__array__(copy=False, dtype=np.float64)
    with pytest.raises(ValueError):
        Tensor(["a"]).__array__(copy=False)
    half = Tensor(np.ones(2, ml_dtypes.bfloat16))
    assert np.asarray(half).dtype == ml_dtypes.bfloat16 and address(np.asarray(half)) == half.data_ptr


def test_buffer_protocol():
    view = memoryview(Tensor(np.arange(6, dtype=np.int32).reshape(2, 3)))
    assert (view.shape, view.strides, view.format, view.tolist()) == ((2, 3), (12, 4), "i", [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(BufferError):
        memoryview(Tensor(np.ones(2, ml_dtypes.bfloat16)))


def test_views_and_copies():
    tensor = Tensor(np.arange(6, dtype=np.float32))
    assert tensor.reshaped([2, 3]).data_ptr == tensor.data_ptr and tensor.reshaped([2, 3]).shape == (2, 3)
    clone = tensor.clone()
    assert clone.owns_memory and clone.data_ptr != tensor.data_ptr and clone.numpy().tolist() == tensor.numpy().tolist()
    with pytest.raises(InvalidArgumentError):
        tensor.reshaped([4])
    assert Tensor.zeros("i64", [2]).numpy().tolist() == [0, 0]
    assert repr(tensor) == "ai_vmm.Tensor(f32, [6])"
    with pytest.raises(InvalidArgumentError):
        Tensor.zeros("f32", [-1])
    with pytest.raises(InvalidArgumentError):
        Tensor.from_bytes("f32", [2], b"1234")
    with pytest.raises(InvalidArgumentError):
        Tensor.zeros("f31", [2])


def test_memory_lives_as_long_as_it_is_seen():
    values = np.arange(1000, dtype=np.float32)
    alive = weakref.ref(values)
    tensor = Tensor(values)
    del values
    gc.collect()
    assert alive() is not None
    back = tensor.numpy()
    del tensor
    gc.collect()
    assert back.sum() == 499500.0
    del back
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "value, type_name, expected",
    [
        (3, "f32", 3), (2.5, "f16", 2.5), (True, "boolean", True), (True, "i32", 1), ([1, 2], "i8", [1, 2]), ([[1.5]], "bf16", [[1.5]]),
        (-8, "i4", -8), ((1, 2), "f64", [1, 2]), (255, "u8", 255), (2**64 - 1, "u64", 2**64 - 1), (-(2**63), "i64", -(2**63)),
        (1 + 2j, "complex64", 1 + 2j), (1.5, "complex128", 1.5), ([], "i64", []), (0.1, "f32", np.float32(0.1)), (float("inf"), "f16", np.inf),
    ],
)  # fmt: skip
def test_python_values_take_the_wanted_type(value, type_name, expected):
    tensor = Tensor(value, type_name)
    assert tensor.type == type_name
    assert np.array_equal(tensor.numpy(), np.array(expected, dtype=tensor.numpy().dtype))


@pytest.mark.parametrize(
    "value, type_name",
    [
        (1.0, "i64"), (300, "u8"), (-1, "u8"), (8, "i4"), (2**24 + 1, "f32"), (257, "bf16"), (1e39, "f32"), (70000.0, "f16"), (1j, "f32"),
        (2, "boolean"), ("a", "f32"), ([1, "a"], "f32"), (2**70, "i64"), ([[1], [1, 2]], "f32"), (None, "f32"), (b"ab", "u8"), ([None], "f32"),
        (object(), "f32"), (1, "nf4"), (2**63, "i64"),
    ],
)  # fmt: skip
def test_python_values_that_do_not_fit_are_refused(value, type_name):
    with pytest.raises(InvalidArgumentError):
        Tensor(value, type_name)


def test_arrays_are_never_cast():
    with pytest.raises(InvalidArgumentError) as caught:
        Tensor(np.zeros(2), "f32")
    assert (caught.value.expected, caught.value.found) == ("f32", "f64 (float64)") and "astype('float32')" in caught.value.advice
    for value in (np.float64(1), [np.float64(1)], [np.zeros(2), np.zeros(2)], Tensor(np.zeros(2))):
        with pytest.raises(InvalidArgumentError):
            Tensor(value, "f32")


@pytest.mark.parametrize(
    "value",
    [np.zeros(2, "M8[s]"), np.zeros(2, [("a", "f4")]), np.ma.masked_array([1.0], [True]), {"a": 1}, np.array([object()]), np.zeros(1, np.longdouble)],
    ids=["date", "record", "masked", "dict", "object", "longdouble"],
)
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(ai_vmm.InvalidArgumentError):
        Tensor(value)


@pytest.mark.filterwarnings("ignore:nanobind")
def test_a_tensor_that_was_never_made():
    nothing = Tensor.__new__(Tensor)
    for use in (memoryview, Tensor.numpy, Tensor.tobytes, np.asarray, repr, Tensor, lambda tensor: tensor.shape, Tensor.__dlpack__):
        with pytest.raises((TypeError, BufferError, RuntimeError)):
            use(nothing)
