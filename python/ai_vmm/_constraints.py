# SPDX-License-Identifier: Apache-2.0
"""Constraints of a deployment."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Optional, Union

from ._errors import InvalidArgumentError

Goal = Literal["latency", "throughput", "efficiency"]
Precision = Literal["automatic", "f32", "bf16", "f16"]


@dataclasses.dataclass(frozen=True)
class Constraints:
    """How a deployment must behave.

    A deployment is admitted under all of these or refused with the nearest offer (FailedPreconditionError, category performance); never
    silently something else. All fields have defaults. Where a sequence of names is wanted, a single str means a sequence of one.

    Attributes:
        max_latency_ms: median time of one execution.
        min_throughput_per_s: items (executions x batch) per second.
        power_budget_watts: refused where no meter can keep it.
        max_memory_mb: host memory of the compiled model, MiB.
        goal: what the plan is chosen for inside the constraints: "latency", "throughput" or "efficiency".
        preferred_hardware: tried first, in order: "cpu", "cpu:0", "NVIDIA_GPU", "INTEL_NPU", …
        devices: if not empty, only these devices.
        engines: if not empty, only these backends.
        precision: force one computing precision; "automatic" is the fastest whose outputs agree with the f32 reference.
        forbid_precisions: never these.
        threads: processor threads per stream; otherwise the planner's choice.
        streams: parallel executions; otherwise the planner's choice.
        input_shapes: typical shapes of dynamic inputs by name, for measuring.
        calibration: typical inputs by name (arrays); generated where absent.
        tune_ms: time for measuring candidates; 0: predict only.
        priority: weight when deployments share the machine; > 0.
    """

    max_latency_ms: Optional[float] = None
    min_throughput_per_s: Optional[float] = None
    power_budget_watts: Optional[float] = None
    max_memory_mb: Optional[float] = None
    goal: Goal = "latency"
    preferred_hardware: Union[str, Sequence[str]] = ()
    devices: Union[str, Sequence[str]] = ()
    engines: Union[str, Sequence[str]] = ()
    precision: Precision = "automatic"
    forbid_precisions: Union[str, Sequence[str]] = ()
    threads: Optional[int] = None
    streams: Optional[int] = None
    input_shapes: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    calibration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tune_ms: float = 2000
    priority: float = 1.0


_FIELDS = tuple(field.name for field in dataclasses.fields(Constraints))


def _wrong(name: str, expected: str, value: Any) -> InvalidArgumentError:
    return InvalidArgumentError(f"constraint {name!r} has an unusable value", expected=expected, found=repr(value))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise _wrong(name, "a finite number", value)
    return float(value)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not -(2**31) <= int(value) < 2**31:
        raise _wrong(name, "an integer", value)
    return int(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a str", value)
    return value


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Sequence):
        raise _wrong(name, "a sequence of str", value)
    return [_text(name, item) for item in value]


def _shapes(name: str, value: Any) -> dict[str, list[int]]:
    if not isinstance(value, Mapping):
        raise _wrong(name, "a mapping of input names to shapes", value)
    shapes: dict[str, list[int]] = {}
    for key, shape in value.items():
        if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
            raise _wrong(name, "a sequence of sizes for each input", value)
        shapes[_text(name, key)] = [_integer(name, size) for size in shape]
    return shapes


def _arrays(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(name, "a mapping of input names to arrays", value)
    return {_text(name, key): array for key, array in value.items()}


_CHECKS: dict[str, Any] = {
    "max_latency_ms": _number, "min_throughput_per_s": _number, "power_budget_watts": _number, "max_memory_mb": _number,
    "goal": _text, "preferred_hardware": _texts, "devices": _texts, "engines": _texts, "precision": _text, "forbid_precisions": _texts,
    "threads": _integer, "streams": _integer, "input_shapes": _shapes, "calibration": _arrays, "tune_ms": _number, "priority": _number,
}  # fmt: skip
_OPTIONAL = {field.name for field in dataclasses.fields(Constraints) if field.default is None}


def normalize(constraints: Union[Constraints, Mapping[str, Any], None], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Every field with its checked value, from a Constraints or mapping and further fields given as keywords.

    Raises:
        InvalidArgumentError: an unknown name (the advice has the nearest known one), a field given twice, or a value of another type.
    """
    if constraints is None:
        given: dict[str, Any] = {}
    elif isinstance(constraints, Constraints):
        given = {name: getattr(constraints, name) for name in _FIELDS}
    elif isinstance(constraints, Mapping):
        given = dict(constraints)
        for name in extra:
            if name in given:
                raise InvalidArgumentError(f"constraint {name!r} is given twice", expected="once", found="in constraints and as a keyword")
    else:
        raise InvalidArgumentError("constraints have the wrong type", expected="a dict or ai_vmm.Constraints", found=type(constraints).__name__)
    given.update(extra)
    for name in given:
        if name not in _FIELDS:
            nearest = difflib.get_close_matches(str(name), _FIELDS, n=1, cutoff=0.5)
            raise InvalidArgumentError(
                f"unknown constraint {name!r}",
                expected="one of " + ", ".join(_FIELDS),
                found=repr(name),
                advice=f"did you mean {nearest[0]!r}?" if nearest else "",
            )
    values = {**{name: getattr(_DEFAULTS, name) for name in _FIELDS}, **given}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        checked[name] = None if value is None and name in _OPTIONAL else _CHECKS[name](name, value)
    checked["tune_ms"] = min(max(math.ceil(checked["tune_ms"]), -1), 2**31)
    return checked


_DEFAULTS = Constraints()
