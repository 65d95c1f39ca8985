# SPDX-License-Identifier: Apache-2.0
"""The plain results: frozen dataclasses with the field names of the C++ API. ``dataclasses.asdict()`` makes dicts of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Optional, cast

import numpy as np

from ._types import ElementType, numpy_dtype

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a model, under the name that the file gives it.

    Attributes:
        shape: sizes, -1 for a dimension of any size; None if the number of dimensions is not fixed either.
        optional: an input that has a default and may be left out.
    """

    name: str
    type: ElementType
    shape: Optional[Shape]
    optional: bool = False

    @property
    def is_dynamic(self) -> bool:
        """Whether a size or the number of dimensions is open."""
        return self.shape is None or any(size < 0 for size in self.shape)

    @property
    def dtype(self) -> Optional[np.dtype[Any]]:
        """The dtype of arrays for it; None where NumPy has none."""
        return numpy_dtype(self.type)


@dataclass(frozen=True)
class NodeProfile:
    """Cost of one node (operation) of the graph at ModelProfile.assumed_shapes. A multiply-add counts as two operations."""

    name: str
    type: str
    precision: str
    flops: int
    bytes_read: int
    bytes_written: int
    parameters: int
    parameter_bytes: int


@dataclass(frozen=True)
class ModelProfile:
    """What a model is: the analyser's result. `nodes` is empty if only an engine's own reader takes the file."""

    name: str
    format: str
    file_size_bytes: int
    category: str
    category_confidence: float
    evidence: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    dynamic_dimensions: tuple[str, ...]
    assumed_shapes: tuple[tuple[str, Shape], ...]
    precision: str
    quantized: bool
    quantization: tuple[str, ...]
    hidden_width: int
    stateful: bool
    flops: int
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    bytes_moved: int
    nodes: tuple[NodeProfile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DeviceRoute:
    """One way to reach a physical device: a backend and the name it uses."""

    backend: str
    backend_device: str
    engine_version: str
    precisions: tuple[str, ...]
    properties: tuple[str, ...]


@dataclass(frozen=True)
class DeviceScores:
    """What was measured on a device rather than read from it. Zero: not measured."""

    memory_bandwidth_gb_s: float
    f32_gflops: float


@dataclass(frozen=True)
class DeviceInfo:
    """One physical device, however many backends reach it. `routes` has the preferred one first."""

    id: str
    kind: str
    vendor: str
    name: str
    uuid: str
    pci_address: str
    memory_total_bytes: int
    memory_free_bytes: int
    compute_units: int
    features: tuple[str, ...]
    scores: DeviceScores
    routes: tuple[DeviceRoute, ...]


@dataclass(frozen=True)
class BackendReport:
    """A backend that was looked at, loaded or not; `reason` says why it was skipped."""

    name: str
    path: str
    version: str
    engine_version: str
    loaded: bool
    reason: str


@dataclass(frozen=True)
class Hardware:
    """Everything that VMM.discover_hardware() found."""

    devices: tuple[DeviceInfo, ...]
    backends: tuple[BackendReport, ...]


@dataclass(frozen=True)
class DeploymentMetrics:
    """Counters and times of one deployment since it was made. Times are of successful executions.

    Attributes:
        executions: how many succeeded.
        cancelled: cancelled or timed out.
        rejected: refused because the queue was full.
        fallbacks: times another candidate took over.
        queue_depth: callers waiting now.
        predicted_latency_ms: what the plan promised.
        active_candidate: such as "openvino/cpu:0/bf16/t2/s1/b1".
        events: fallbacks and failures, newest last, at most 64; "... (3 times)" if one came in a row.
    """

    name: str
    executions: int
    failures: int
    cancelled: int
    rejected: int
    fallbacks: int
    queue_depth: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    predicted_latency_ms: float
    active_candidate: str
    events: tuple[str, ...]


@dataclass(frozen=True)
class Metrics:
    """Totals over the deployments that are alive, and of the cache."""

    deployments: tuple[DeploymentMetrics, ...]
    cache_hits: int
    cache_misses: int
    cache_damaged: int
    threads_total: int
    threads_in_use: int


@dataclass(frozen=True)
class DeploymentDescription:
    """What a deployment is: where it comes from, where and how it runs, and where the time of deploy() went."""

    name: str
    source: str
    profile: ModelProfile
    engine: str
    device: str
    precision: str
    threads: int
    streams: int
    batch: int
    from_cache: bool
    deploy_ms: float
    deploy_steps_ms: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """A decision with every rejected candidate and its reason; ``str()`` is the text for people."""

    text: str
    json: str

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, parsed; the schema is in docs/reference/plan-json.md."""
        return cast(dict[str, Any], json.loads(self.json))


@dataclass(frozen=True)
class CacheEntry:
    """One entry of the artifact cache."""

    key: str
    model: str
    kind: str
    size_bytes: int
    last_used_unix_s: int


@dataclass(frozen=True)
class CacheReport:
    """What is in the artifact cache; `entries` has the newest use first."""

    directory: str
    size_bytes: int
    limit_bytes: int
    writable: bool
    entries: tuple[CacheEntry, ...]


def _each(cls: Any, values: Any) -> tuple[Any, ...]:
    return tuple(cls(**value) for value in values)


def make_tensor_infos(values: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
    return _each(TensorInfo, values)


def make_profile(value: dict[str, Any]) -> ModelProfile:
    value.update(
        inputs=_each(TensorInfo, value["inputs"]), outputs=_each(TensorInfo, value["outputs"]), nodes=_each(NodeProfile, value["nodes"])
    )
    return ModelProfile(**value)


def make_hardware(value: dict[str, Any]) -> Hardware:
    devices = tuple(
        DeviceInfo(**{**device, "scores": DeviceScores(**device["scores"]), "routes": _each(DeviceRoute, device["routes"])})
        for device in value["devices"]
    )
    return Hardware(devices, _each(BackendReport, value["backends"]))


def make_description(value: dict[str, Any]) -> DeploymentDescription:
    return DeploymentDescription(**{**value, "profile": make_profile(value["profile"])})


def make_metrics(value: dict[str, Any]) -> Metrics:
    return Metrics(**{**value, "deployments": _each(DeploymentMetrics, value["deployments"])})


def make_cache_report(value: dict[str, Any]) -> CacheReport:
    return CacheReport(**{**value, "entries": _each(CacheEntry, value["entries"])})
