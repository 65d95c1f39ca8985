# SPDX-License-Identifier: Apache-2.0
"""The errors of AI VMM: one class per stable code, each also the built-in class that fits it."""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Union


class ErrorCode(enum.IntEnum):
    """Stable error codes, numbered as in google.rpc.Code. ``str(code)`` is the name used in messages and JSON."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    def __str__(self) -> str:
        return self.name.lower()


class ErrorCategory(str, enum.Enum):
    """Which part of a deployment's life an error belongs to."""

    INPUT = "input"  #: what the caller gave: a file, a tensor, an option
    COMPILATION = "compilation"  #: reading, converting or compiling a model
    RUNTIME = "runtime"  #: executing a deployed model
    PERFORMANCE = "performance"  #: a constraint that can't be met
    SYSTEM = "system"  #: the machine: disk, memory, libraries, permissions

    def __str__(self) -> str:
        return self.value


class Error(Exception):
    """What every function of this package raises; a subclass says which code.

    Attributes:
        code: the stable code.
        category: the part of a deployment's life it belongs to.
        message: one sentence without the details.
        expected: what would have been accepted; may be empty.
        found: what was there instead; may be empty.
        advice: what to do about it; may be empty.

    ``str(error)`` is the message followed by every detail that is present. Errors can be pickled.
    """

    code: ErrorCode = ErrorCode.UNKNOWN
    category: ErrorCategory
    message: str
    expected: str
    found: str
    advice: str

    #: The class for each code; filled by the subclasses.
    _classes: ClassVar[dict[ErrorCode, type[Error]]] = {}

    def __init_subclass__(cls, *, code: ErrorCode, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.code = code
        Error._classes.setdefault(code, cls)

    def __init__(
        self,
        message: str,
        *,
        expected: str = "",
        found: str = "",
        advice: str = "",
        category: Union[ErrorCategory, str] = ErrorCategory.INPUT,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.advice = advice
        self.category = ErrorCategory(category)

    def __str__(self) -> str:
        parts = [self.message]
        for label, text in (("expected", self.expected), ("found", self.found), ("to do", self.advice)):
            if text:
                parts.append(f"{label}: {text}")
        return "; ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.expected, self.found, self.advice, self.category.value)


def _restore(cls: type[Error], message: str, expected: str, found: str, advice: str, category: str) -> Error:
    return cls(message, expected=expected, found=found, advice=advice, category=category)


class CancelledError(Error, code=ErrorCode.CANCELLED):
    """The execution was cancelled."""


class UnknownError(Error, RuntimeError, code=ErrorCode.UNKNOWN):
    """Something failed without saying what."""


class InvalidArgumentError(Error, ValueError, code=ErrorCode.INVALID_ARGUMENT):
    """A file, tensor, option or constraint that is wrong whatever the machine's state."""


class DeadlineExceededError(Error, TimeoutError, code=ErrorCode.DEADLINE_EXCEEDED):
    """The timeout ran out."""


class NotFoundError(Error, FileNotFoundError, LookupError, code=ErrorCode.NOT_FOUND):
    """No such file, name or deployment."""


class AlreadyExistsError(Error, FileExistsError, code=ErrorCode.ALREADY_EXISTS):
    """The name is taken."""


class PermissionDeniedError(Error, PermissionError, code=ErrorCode.PERMISSION_DENIED):
    """The file or folder may not be read or written."""


class ResourceExhaustedError(Error, RuntimeError, code=ErrorCode.RESOURCE_EXHAUSTED):
    """Out of memory or disk, or the queue of a deployment is full. Not a MemoryError: a full queue is no reason to give up."""


class FailedPreconditionError(Error, RuntimeError, code=ErrorCode.FAILED_PRECONDITION):
    """A constraint that can't be met (the advice has the nearest offer), or a deployment that has ended."""


class AbortedError(Error, RuntimeError, code=ErrorCode.ABORTED):
    """The operation was given up because of another one."""


class OutOfRangeError(Error, IndexError, code=ErrorCode.OUT_OF_RANGE):
    """A position past the end."""


class UnimplementedError(Error, NotImplementedError, code=ErrorCode.UNIMPLEMENTED):
    """No engine here runs this; the message has each engine's reason."""


class InternalError(Error, RuntimeError, code=ErrorCode.INTERNAL):
    """An engine failed, and so did every other candidate."""


class UnavailableError(Error, RuntimeError, code=ErrorCode.UNAVAILABLE):
    """A device or service that was there is not there now."""


class DataLossError(Error, RuntimeError, code=ErrorCode.DATA_LOSS):
    """Damaged data that can't be rebuilt."""


class UnauthenticatedError(Error, PermissionError, code=ErrorCode.UNAUTHENTICATED):
    """Credentials are missing or wrong."""


_BY_NAME = {str(code): cls for code, cls in Error._classes.items()}


def make_error(code: str, category: str, message: str, expected: str, found: str, advice: str) -> Error:
    """The instance for an error of the C++ library; called by the extension module."""
    cls = _BY_NAME.get(code, UnknownError)
    return cls(message, expected=expected, found=found, advice=advice, category=category)
