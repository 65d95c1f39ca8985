# SPDX-License-Identifier: Apache-2.0
"""Element types and the NumPy dtypes that match them."""

from __future__ import annotations

from typing import Any, Literal, Optional, cast

import numpy as np

try:
    import ml_dtypes  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:  # optional: without it bf16, float8 and 4-bit tensors stay ai_vmm.Tensor objects
    ml_dtypes = None

ElementType = Literal[
    "undefined", "boolean", "bf16", "f16", "f32", "f64", "f8e4m3", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1", "nf4",
    "i2", "i4", "i8", "i16", "i32", "i64", "u1", "u2", "u4", "u8", "u16", "u32", "u64", "complex64", "complex128", "string",
]  # fmt: skip
"""Name of an element type, as in messages, JSON and on the command line."""

_NUMPY = {
    "boolean": "bool", "f16": "float16", "f32": "float32", "f64": "float64",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "complex64": "complex64", "complex128": "complex128",
}  # fmt: skip
_ML_DTYPES = {
    "bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2", "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0": "float8_e8m0fnu",
}  # fmt: skip
_ML_DTYPES_PACKED = {"i2": "int2", "u2": "uint2", "i4": "int4", "u4": "uint4", "f4e2m1": "float4_e2m1fn"}


def _ml_dtype(name: str) -> Optional[np.dtype[Any]]:
    scalar = getattr(ml_dtypes, name, None)
    return None if scalar is None else np.dtype(scalar)


#: numpy.dtype by element type, where one element takes the same bytes in both.
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(numpy_name) for name, numpy_name in _NUMPY.items()}
for _name, _numpy_name in _ML_DTYPES.items():
    if (_dtype := _ml_dtype(_numpy_name)) is not None:
        DTYPES[_name] = _dtype

#: numpy.dtype by element type, where NumPy keeps one element per byte and tensors pack them.
PACKED_DTYPES: dict[str, np.dtype[Any]] = {}
for _name, _numpy_name in _ML_DTYPES_PACKED.items():
    if (_dtype := _ml_dtype(_numpy_name)) is not None:
        PACKED_DTYPES[_name] = _dtype

#: Bits of one element of the packed types.
PACKED_BITS = {"u1": 1, "i2": 2, "u2": 2, "i4": 4, "u4": 4, "f4e2m1": 4, "nf4": 4}

_BY_DTYPE: dict[np.dtype[Any], str] = {dtype: name for name, dtype in (*DTYPES.items(), *PACKED_DTYPES.items())}


def numpy_dtype(element_type: str) -> Optional[np.dtype[Any]]:
    """The numpy.dtype of arrays of that element type; object for strings; None where NumPy (with ml_dtypes, if installed) has none."""
    if element_type == "string":
        return np.dtype(object)
    return DTYPES.get(element_type) or PACKED_DTYPES.get(element_type)


def element_type(dtype: Any) -> Optional[ElementType]:
    """The element type of a numpy.dtype in any byte order; "string" for text dtypes; None where there is none (object, dates, records)."""
    dtype = np.dtype(dtype)
    if dtype.kind in "UST":
        return "string"
    if dtype.byteorder not in "=|":
        dtype = dtype.newbyteorder("=")
    return cast(Optional[ElementType], _BY_DTYPE.get(dtype))
