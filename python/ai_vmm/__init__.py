# SPDX-License-Identifier: Apache-2.0
"""AI VMM: one call takes any model to the best use of whatever hardware a machine has.

>>> from ai_vmm import VMM                                    # doctest: +SKIP
>>> model = VMM().deploy("model.onnx", max_latency_ms=10)     # doctest: +SKIP
>>> y = model(x)                                              # doctest: +SKIP
"""

from __future__ import annotations

import atexit as _atexit
from collections.abc import Mapping as _Mapping

import numpy as _np

from . import _convert, _core, _types
from ._constraints import Constraints
from ._core import Tensor
from ._errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    Error,
    ErrorCategory,
    ErrorCode,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
    make_error as _make_error,
)
from ._types import ElementType
from ._values import (
    BackendReport,
    CacheEntry,
    CacheReport,
    DeploymentDescription,
    DeploymentMetrics,
    DeviceInfo,
    DeviceRoute,
    DeviceScores,
    Explanation,
    Hardware,
    Metrics,
    ModelProfile,
    NodeProfile,
    TensorInfo,
)
from ._vmm import VMM, Deployment, DeployRequest, ExecutionFuture

_core._install(_make_error, _convert.to_tensor, _convert.to_numpy, _convert.tensor_array, _np.ndarray, _Mapping, _types.DTYPES)
_atexit.register(_core._close)

__version__: str = _core.version()

__all__ = [
    "VMM",
    "AbortedError",
    "AlreadyExistsError",
    "BackendReport",
    "CacheEntry",
    "CacheReport",
    "CancelledError",
    "Constraints",
    "DataLossError",
    "DeadlineExceededError",
    "DeployRequest",
    "Deployment",
    "DeploymentDescription",
    "DeploymentMetrics",
    "DeviceInfo",
    "DeviceRoute",
    "DeviceScores",
    "ElementType",
    "Error",
    "ErrorCategory",
    "ErrorCode",
    "ExecutionFuture",
    "Explanation",
    "FailedPreconditionError",
    "Hardware",
    "InternalError",
    "InvalidArgumentError",
    "Metrics",
    "ModelProfile",
    "NodeProfile",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "Tensor",
    "TensorInfo",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
]
