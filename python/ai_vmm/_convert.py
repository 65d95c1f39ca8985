# SPDX-License-Identifier: Apache-2.0
"""Conversions between Python values and tensors that are not a plain borrowing of memory.

The extension module borrows contiguous NumPy arrays of the right type by itself and calls to_tensor() and to_numpy() for the rest.
Rules: memory is borrowed where the layout allows, copied where it doesn't; an array's element type is never changed; numbers, lists and
text without an element type of their own take the expected one where it holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Optional

import numpy as np

from . import _core
from ._core import Tensor
from ._errors import InvalidArgumentError
from ._types import DTYPES, PACKED_BITS, PACKED_DTYPES, element_type, numpy_dtype


def to_tensor(value: Any, expected: Optional[str], what: str) -> Tensor:
    """A tensor of `value`, borrowing its memory where that is possible.

    Args:
        value: a Tensor, NumPy array or scalar, DLPack object, buffer, array-like, number, str, bytes, or nested list of those.
        expected: the element type that it must have; None: the one that it has.
        what: names the value in errors, such as "input 'x'".

    Raises:
        InvalidArgumentError: another element type, or a value that the expected type can't hold.
    """
    if isinstance(value, Tensor):
        tensor = value
    elif isinstance(value, (np.ndarray, np.generic)):
        tensor = _from_numpy(value, expected, what)
    elif isinstance(value, (bool, int, float, complex, str, bytes, list, tuple)):
        tensor = _from_python(value, expected, what)
    elif hasattr(value, "__dlpack__"):
        tensor = _from_dlpack(value, what)
    elif (array := _from_protocols(value, what)) is not None:
        tensor = _from_numpy(array, expected, what)
    else:
        raise InvalidArgumentError(
            f"{what} is not an array",
            expected="a numpy.ndarray, a DLPack object, an ai_vmm.Tensor, a number, or a list of numbers or str",
            found="nothing (None)" if value is None else f"an object of type {type(value).__name__}",
        )
    if expected is not None and tensor.type != expected:
        raise _wrong_type(what, expected, tensor.type, getattr(value, "dtype", None))
    return tensor


def to_numpy(tensor: Tensor) -> Any:
    """The array for types that NumPy can't see in place; the tensor itself where it has no such type."""
    if tensor.type == "string":
        array = np.empty(tensor.size, dtype=object)
        array[:] = tensor._strings()
        return array.reshape(tensor.shape)
    dtype = PACKED_DTYPES.get(tensor.type)
    if dtype is None:
        return tensor
    bits = PACKED_BITS[tensor.type]
    packed = np.frombuffer(tensor.tobytes(), dtype=np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((packed[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[: tensor.size]
    return codes.view(dtype).reshape(tensor.shape)


def tensor_array(tensor: Tensor, dtype: Any = None, copy: Optional[bool] = None) -> Any:
    """Tensor.__array__: see https://numpy.org/doc/stable/user/basics.interoperability.html."""
    shared = tensor.type in DTYPES
    if copy is False and not shared:
        raise ValueError(f"a {tensor.type} tensor can't become an array without a copy")
    array = tensor.numpy()
    if array is tensor:
        raise InvalidArgumentError(
            "the tensor has no NumPy form", expected="an element type that NumPy has", found=tensor.type, advice="use tobytes()"
        )
    if dtype is not None and np.dtype(dtype) != array.dtype:
        if copy is False:
            raise ValueError("another dtype needs a copy")
        return array.astype(dtype)
    return array.copy() if copy and shared else array


def _wrong_type(what: str, expected: str, found: str, dtype: Any) -> InvalidArgumentError:
    wanted = numpy_dtype(expected)
    advice = "types are never changed silently"
    if wanted is not None and expected != "string":
        advice += f"; convert with x.astype({wanted.name!r})"
    return InvalidArgumentError(
        f"{what} has the wrong element type", expected=expected, found=found if dtype is None else f"{found} ({dtype})", advice=advice
    )


def _from_numpy(value: Any, expected: Optional[str], what: str) -> Tensor:
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidArgumentError(
            f"{what} is a masked array", expected="an array without a mask", found="numpy.ma.MaskedArray", advice="fill it first: x.filled(0)"
        )
    array = np.asarray(value)
    if array.dtype.kind in "UST" or (array.dtype.kind == "O" and expected in (None, "string")):
        return _from_text(array, what)
    found = element_type(array.dtype)
    if found is None:
        raise InvalidArgumentError(
            f"{what} has a dtype without an element type", expected=expected or "numbers, bool or str", found=f"dtype {array.dtype}"
        )
    if expected is not None and found != expected:
        raise _wrong_type(what, expected, found, array.dtype)
    if found in PACKED_DTYPES:
        return _pack(array, found)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    elif not (array.flags.c_contiguous and array.flags.aligned):
        array = array.copy(order="C")
    # NumPy exports no buffer with a format for ml_dtypes; the bytes are the same.
    owner = array if found not in ("bf16",) and not found.startswith("f8") else array.view(f"u{array.dtype.itemsize}")
    return _core._borrow_buffer(owner, found, list(array.shape))


def _pack(array: np.ndarray[Any, Any], name: str) -> Tensor:
    bits = PACKED_BITS[name]
    per_byte = 8 // bits
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    codes = np.concatenate([codes, np.zeros(-len(codes) % per_byte, dtype=np.uint8)]).reshape(-1, per_byte)
    packed = np.bitwise_or.reduce(codes << np.arange(0, 8, bits, dtype=np.uint8), axis=1).astype(np.uint8)
    return Tensor.from_bytes(name, list(array.shape), packed.tobytes())


def _from_text(array: np.ndarray[Any, Any], what: str) -> Tensor:
    values = array.reshape(-1).tolist()
    for value in values:
        if not isinstance(value, (str, bytes)):
            raise InvalidArgumentError(f"{what} has an element that is not text", expected="str or bytes", found=type(value).__name__)
    return _core._from_strings(values, list(array.shape))


def _from_dlpack(value: Any, what: str) -> Tensor:
    try:
        return _core._from_dlpack(value, what)
    except (BufferError, RuntimeError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(
            f"{what} could not be taken over through DLPack", found=f"{type(value).__name__}: {error}", expected="a dense array in host memory"
        ) from error


def _from_protocols(value: Any, what: str) -> Optional[np.ndarray[Any, Any]]:
    """The array behind the buffer protocol or NumPy's own; None if there is neither."""
    try:
        view = memoryview(value)
    except (TypeError, BufferError):
        view = None
    try:
        if view is not None:
            return np.asarray(view)
        if any(hasattr(value, name) for name in ("__array__", "__array_interface__", "__array_struct__")):
            return np.asarray(value)
    except Exception as error:  # whatever the foreign object raises
        raise InvalidArgumentError(f"{what} could not be read as an array", found=f"{type(value).__name__}: {error}") from error
    return None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _from_python(value: Any, expected: Optional[str], what: str) -> Tensor:
    """Values without an element type of their own: they take the expected one where it holds them."""
    if isinstance(value, bytes) and expected not in (None, "string"):
        raise InvalidArgumentError(
            f"{what} is given as raw bytes", expected=f"an array of {expected}", found="bytes", advice="use ai_vmm.Tensor.from_bytes()"
        )
    if expected == "string" or (expected is None and isinstance(next(_leaves(value), None), (str, bytes))):
        return _from_text(_ragged_checked(value, object, what), what)
    array = _ragged_checked(value, None, what)
    if any(hasattr(leaf, "dtype") for leaf in _leaves(value)):  # a list of arrays has an element type
        return _from_numpy(array, expected, what)
    if expected is None:
        return _from_numpy(array, None, what)
    dtype = numpy_dtype(expected)
    if dtype is None:
        raise InvalidArgumentError(
            f"{what} of type {expected} can't be made of Python values", expected=f"an ai_vmm.Tensor of {expected}", found=type(value).__name__,
            advice="use ai_vmm.Tensor.from_bytes()",
        )  # fmt: skip
    if array.size == 0:
        return _from_numpy(np.zeros(array.shape, dtype), expected, what)
    return _from_numpy(_cast_exactly(array, dtype, expected, what), expected, what)


def _ragged_checked(value: Any, dtype: Any, what: str) -> np.ndarray[Any, Any]:
    try:
        array = np.array(value, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"{what} is not a rectangular list of values", expected="lists of equal lengths", found=str(error)) from error
    if dtype is object and any(isinstance(item, (list, tuple)) for item in array.reshape(-1)):
        raise InvalidArgumentError(f"{what} is not a rectangular list of values", expected="lists of equal lengths", found="lists of several lengths")
    return array


def _cast_exactly(array: np.ndarray[Any, Any], dtype: np.dtype[Any], expected: str, what: str) -> np.ndarray[Any, Any]:
    """`array` of Python values as `dtype`: a kind is never narrowed (no float to int), integers stay exact, floats may be rounded but not
    overflow. These are NumPy's own rules for Python numbers (NEP 50), with exactness added for integers."""

    def refuse(found: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"{what} has a value that its element type can't hold", expected=expected, found=found)

    kind = array.dtype.kind
    if kind == "O":  # integers beyond 64 bits, or things that are no numbers
        odd = next((item for item in array.reshape(-1) if not isinstance(item, int)), None)
        raise refuse(f"an object of type {type(odd).__name__}" if odd is not None else "an integer of more than 64 bits")
    to_bool = expected == "boolean"
    to_integer = expected[0] in "iu"
    to_complex = expected.startswith("complex")
    allowed = {"b": True, "i": not to_bool, "u": not to_bool, "f": not to_bool and not to_integer, "c": to_complex}
    if not allowed.get(kind, False):
        raise refuse(f"values of type {array.dtype.name if kind != 'U' else 'str'}")
    with np.errstate(all="ignore"):
        result = array.astype(dtype)
        if kind in "iu":
            back: Iterable[Any] = result.reshape(-1).tolist()
            for before, after in zip(array.reshape(-1).tolist(), back):
                number = after.real if isinstance(after, complex) else float(after) if not isinstance(after, int) else after
                if number != before:
                    raise refuse(str(before))
        elif kind in "fc":
            lost = np.isfinite(array) & ~np.isfinite(result.astype(array.dtype if kind == "c" or not to_complex else np.complex128))
            if lost.any():
                raise refuse(str(array[lost].flat[0]))
    return result
