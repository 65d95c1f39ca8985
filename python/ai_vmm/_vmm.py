# SPDX-License-Identifier: Apache-2.0
"""VMM and Deployment."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Optional, Union, cast

from . import _core, _values
from ._constraints import Constraints, normalize
from ._errors import Error, InvalidArgumentError
from ._values import CacheReport, DeploymentDescription, DeploymentMetrics, Explanation, Hardware, Metrics, ModelProfile, TensorInfo

Source = Union[str, os.PathLike[str], bytes, bytearray, memoryview]
"""A model: the path of a file or directory, or the content of a single-file format."""

Returns = Literal["numpy", "tensor"]
"""How outputs come: NumPy arrays, or ai_vmm.Tensor objects (DLPack, buffer protocol, every element type)."""

Progress = Callable[[str, float], object]
"""Called during long work with a stage name and how much of the whole is done, 0 to 1."""

Inputs = Any
"""A mapping from input names to array-likes; or, for a model with one input, the array-like itself."""


def _source(source: Source) -> tuple[bytes, bool]:
    """The path in the file system's encoding, or the content; and which of the two."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), True
    try:
        return os.fsencode(source), False
    except TypeError:
        raise InvalidArgumentError(
            "the model source has the wrong type", expected="a path (str or os.PathLike) or bytes", found=type(source).__name__
        ) from None
    except ValueError as error:
        raise InvalidArgumentError("the model path can't be encoded", found=str(error)) from error


def _as_tensors(returns: Returns) -> bool:
    if returns not in ("numpy", "tensor"):
        raise InvalidArgumentError("returns has an unknown value", expected="'numpy' or 'tensor'", found=repr(returns))
    return returns == "tensor"


def _timeout(timeout_ms: Optional[float]) -> Optional[float]:
    if timeout_ms is None:
        return None
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, (int, float)):
        raise InvalidArgumentError("timeout_ms has the wrong type", expected="a number of milliseconds, or None", found=repr(timeout_ms))
    return float(timeout_ms)


class ExecutionFuture(concurrent.futures.Future[dict[str, Any]]):
    """The outcome of Deployment.execute_async(): a concurrent.futures.Future that can also be awaited.

    ``cancel()`` works while the execution waits and while it runs; the engine then stops as soon as it can. Callbacks added with
    ``add_done_callback()`` run on a worker thread. The deployment is kept alive until it is done.
    """

    def __init__(self, deployment: Deployment) -> None:
        super().__init__()
        self._stop = _core.StopSource()
        self._deployment: Optional[Deployment] = deployment

    def cancel(self) -> bool:
        """Cancels unless it is done. Returns whether it is cancelled."""
        if not super().cancel():
            return False
        self._stop.request_stop()
        return True

    def _finish(self, outputs: Optional[dict[str, Any]], error: Optional[Error]) -> None:
        try:
            if not self.set_running_or_notify_cancel():
                return
            if error is not None:
                self.set_exception(error)
            else:
                assert outputs is not None
                self.set_result(outputs)
        finally:
            self._deployment = None

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        return asyncio.wrap_future(self).__await__()


class Deployment:
    """A running model, made by VMM.deploy(). Every method may be called from any number of threads at once; the GIL is released while
    engines run. It keeps its VMM alive, and runs until undeploy() or until the last reference goes.

    Calling it runs it once::

        y = model(x)                      # one input, one output: arrays
        y = model({"a": x, "b": z})       # by name
        y = model(x, z)                   # in the file's order
        y = model(a=x, b=z)               # by name, where names are Python names

    As a context manager it is undeployed at the end of the block.
    """

    __slots__ = ("_core", "_vmm", "_ended", "_inputs", "_outputs", "__weakref__")

    def __init__(self, core: _core.Deployment, vmm: VMM) -> None:
        self._core = core
        self._vmm = vmm
        self._ended = False
        self._inputs = _values.make_tensor_infos(core.inputs())
        self._outputs = _values.make_tensor_infos(core.outputs())

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs in the file's order, under its names."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs in the file's order, under its names."""
        return self._outputs

    def __call__(self, *args: Any, timeout_ms: Optional[float] = None, returns: Returns = "numpy", **inputs: Any) -> Any:
        """Runs once, on the caller's thread.

        Args:
            *args: one array-like per input in the file's order, or one mapping from names to array-likes. NumPy arrays, DLPack objects in
                host memory and buffers that are C-contiguous and of the input's element type are used in place, and must not change
                meanwhile; other layouts are copied. Element types are never changed; numbers, lists and str without one take the input's.
            timeout_ms: waiting and running together, milliseconds.
            returns: "numpy" or "tensor".
            **inputs: further inputs by name. A name that is no Python name, or is "timeout_ms" or "returns", needs the mapping.

        Returns:
            The output if the model has one, else a dict by the file's names in its order. Arrays own their memory. Where NumPy has no
            type for the elements the value is an ai_vmm.Tensor; strings come as object arrays of str.

        Raises:
            InvalidArgumentError: unknown, missing or repeated name; wrong type or shape.
            ResourceExhaustedError: too many callers are waiting.
            DeadlineExceededError: the timeout ran out.
            FailedPreconditionError: after undeploy().
            InternalError: every candidate engine failed; the message has the last engine's.
        """
        return self._core.run(args, inputs, _timeout(timeout_ms), _as_tensors(returns), True)

    def execute(self, inputs: Inputs, *, timeout_ms: Optional[float] = None, returns: Returns = "numpy") -> dict[str, Any]:
        """As calling it, but always a dict by the file's output names, in its order. Same errors."""
        return cast(dict[str, Any], self._core.run((inputs,), {}, _timeout(timeout_ms), _as_tensors(returns), False))

    def execute_into(
        self, inputs: Inputs, outputs: Union[Mapping[str, Any], Sequence[Any], Any], *, timeout_ms: Optional[float] = None
    ) -> dict[str, Any]:
        """As execute(), writing into given memory.

        Args:
            inputs: as for execute(); a mapping or one array.
            outputs: a mapping by name, a list or tuple in the file's order, or one array: writable, C-contiguous numpy.ndarray or
                ai_vmm.Tensor objects of the outputs' types and shapes. What is left out or None is allocated.
            timeout_ms: waiting and running together, milliseconds.

        Returns:
            Every output by name: the given objects where they were given.

        Raises:
            InvalidArgumentError: also if an output object can't be written in place.
        """
        targets: list[Any] = [None] * len(self._outputs)
        if isinstance(outputs, Mapping):
            positions = {info.name: i for i, info in enumerate(self._outputs)}
            for name, target in outputs.items():
                if name not in positions:
                    raise InvalidArgumentError(f"the model has no output {name!r}", expected="one of " + ", ".join(map(repr, positions)))
                targets[positions[name]] = target
        else:
            given = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
            if len(given) > len(targets):
                raise InvalidArgumentError("too many outputs", expected=f"at most {len(targets)}", found=str(len(given)))
            targets[: len(given)] = given
        return cast(dict[str, Any], self._core.run_into((inputs,), targets, _timeout(timeout_ms)))

    def execute_async(self, inputs: Inputs, *, timeout_ms: Optional[float] = None, returns: Returns = "numpy") -> ExecutionFuture:
        """Queues one execution on the deployment's worker threads. Input memory must stay unchanged until it is done.

        Returns:
            A future of what execute() returns; see ExecutionFuture. At interpreter exit running executions are waited for.

        Raises:
            InvalidArgumentError: an input can't be converted. Other errors are the future's.
            ResourceExhaustedError: the queue is full.
        """
        future = ExecutionFuture(self)
        self._core.run_async((inputs,), _timeout(timeout_ms), _as_tensors(returns), future._stop, future._finish)
        return future

    async def aexecute(self, inputs: Inputs, *, timeout_ms: Optional[float] = None, returns: Returns = "numpy") -> dict[str, Any]:
        """As execute(), for asyncio. Cancelling the task cancels the execution."""
        return await self.execute_async(inputs, timeout_ms=timeout_ms, returns=returns)

    def execute_batch(
        self, batch: Iterable[Inputs], *, timeout_ms: Optional[float] = None, returns: Returns = "numpy"
    ) -> list[dict[str, Any]]:
        """Runs every element, as many at once as the plan has streams. Returns what execute() returns for each, in order.
        The first error is raised after all have ended."""
        return self._core.run_batch(list(batch), _timeout(timeout_ms), _as_tensors(returns))

    def describe(self) -> DeploymentDescription:
        """What it is: names, types, shapes, engine, device, and where the time of deploy() went."""
        return _values.make_description(self._core.describe())

    def explain(self) -> Explanation:
        """Why it runs as it does: the plan, with every rejected candidate and its reason."""
        return Explanation(**self._core.explain())

    def metrics(self) -> DeploymentMetrics:
        """Counters and latencies since it was made."""
        return DeploymentMetrics(**self._core.metrics())

    def undeploy(self) -> None:
        """Stops it: waits for running executions, refuses new ones, returns its threads to the machine's account.

        Raises:
            NotFoundError: already undeployed.
        """
        self._vmm.undeploy(self)

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if not self._ended:
            self.undeploy()

    def __repr__(self) -> str:
        def ports(infos: tuple[TensorInfo, ...]) -> str:
            shapes = ("?" if info.shape is None else ",".join("?" if size < 0 else str(size) for size in info.shape) for info in infos)
            return ", ".join(f"{info.name}: {info.type}[{shape}]" for info, shape in zip(infos, shapes))

        return f"<ai_vmm.Deployment ({ports(self._inputs)}) -> ({ports(self._outputs)}){' ended' if self._ended else ''}>"


@dataclass(frozen=True)
class DeployRequest:
    """One model of VMM.deploy_all(): as the arguments of VMM.deploy()."""

    source: Source
    constraints: Union[Constraints, Mapping[str, Any], None] = field(default=None)
    name: Optional[str] = None


class VMM:
    """The AI virtual machine manager: finds hardware, deploys models on it. Thread-safe.

    Args:
        cache_dir: folder of the artifact cache. Default: $AI_VMM_CACHE_DIR, else $XDG_CACHE_HOME/ai_vmm, else ~/.cache/ai_vmm.
        use_cache: False: neither read nor write the cache.
        cache_limit_bytes: least recently used entries go beyond this; default 8 GiB.
        backend_paths: libraries or folders to load backends from, besides the installed ones.
        load_installed_backends: False: only `backend_paths`.
        max_queue: callers that may wait per deployment; default 1024.
        progress: called on the deploying thread with a stage name ("read", "tune", …) and the fraction done. An exception that it
            raises ends the deployment and reaches the caller. Ctrl-C is noticed at the same points.

    Raises:
        InvalidArgumentError: an option of the wrong type or value.
    """

    def __init__(
        self,
        *,
        cache_dir: Union[str, os.PathLike[str], None] = None,
        use_cache: bool = True,
        cache_limit_bytes: Optional[int] = None,
        backend_paths: Iterable[Union[str, os.PathLike[str]]] = (),
        load_installed_backends: bool = True,
        max_queue: Optional[int] = None,
        progress: Optional[Progress] = None,
    ) -> None:
        if progress is not None and not callable(progress):
            raise InvalidArgumentError("progress has the wrong type", expected="a function (stage, fraction)", found=type(progress).__name__)
        if isinstance(backend_paths, (str, bytes, os.PathLike)):
            backend_paths = [cast(Union[str, "os.PathLike[str]"], backend_paths)]
        for name, value in (("cache_limit_bytes", cache_limit_bytes), ("max_queue", max_queue)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31 * (2**31 if name[0] == "c" else 1)):
                raise InvalidArgumentError(f"{name} has an unusable value", expected="an integer >= 0", found=repr(value))
        try:
            directory = None if cache_dir is None else os.fsencode(cache_dir)
            paths = [os.fsencode(path) for path in backend_paths]
        except TypeError as error:
            raise InvalidArgumentError("a path has the wrong type", expected="str or os.PathLike", found=str(error)) from None
        self._progress = progress
        # The library must not own the function: it may refer back to this object, and that circle would never be freed.
        this = weakref.ref(self)

        def forward(stage: str, fraction: float) -> None:
            vmm = this()
            if vmm is not None and vmm._progress is not None:
                vmm._progress(stage, fraction)

        self._core = _core.VMM(
            directory, cache_limit_bytes, bool(use_cache), paths, bool(load_installed_backends), max_queue, None if progress is None else forward
        )

    def discover_hardware(self, refresh: bool = False) -> Hardware:
        """Devices and backends. Cheap after the first call; `refresh` looks again."""
        return _values.make_hardware(self._core.discover_hardware(bool(refresh)))

    def deploy(
        self,
        source: Source,
        constraints: Union[Constraints, Mapping[str, Any], None] = None,
        name: Optional[str] = None,
        **more_constraints: Any,
    ) -> Deployment:
        """Reads, analyses, plans, compiles, checks against the reference, and starts a model.

        Args:
            source: the path of a file or directory, or the content of a single-file format as bytes.
            constraints: a dict or Constraints; see Constraints for the fields.
            name: default: the file's stem.
            **more_constraints: single constraints, such as ``max_latency_ms=10``.

        Raises:
            NotFoundError: no such file.
            InvalidArgumentError: unknown, truncated or malformed file; unknown device, engine or constraint; contradictory constraints.
            UnimplementedError: no engine runs it; the message has each engine's reason.
            FailedPreconditionError: a constraint can't be met; the advice has the nearest offer.
            KeyboardInterrupt: Ctrl-C, at the next step of the work.
        """
        content, in_memory = _source(source)
        core = self._core.deploy(content, in_memory, normalize(constraints, more_constraints), _name(name))
        return Deployment(core, self)

    def deploy_all(self, requests: Iterable[Union[DeployRequest, Source, tuple[Source, Union[Constraints, Mapping[str, Any], None]]]]) -> list[Deployment]:
        """Deploys several models with disjoint thread budgets from one machine-wide account, in proportion to their priorities.

        All or nothing: if one is refused the others are undeployed and its error is raised.

        Args:
            requests: DeployRequest objects, sources, or (source, constraints) pairs.
        """
        prepared = []
        for request in requests:
            if isinstance(request, tuple):
                if len(request) != 2:
                    raise InvalidArgumentError("a request has the wrong length", expected="(source, constraints)", found=f"{len(request)} items")
                request = DeployRequest(*request)
            elif not isinstance(request, DeployRequest):
                request = DeployRequest(request)
            content, in_memory = _source(request.source)
            prepared.append((content, in_memory, normalize(request.constraints, {}), _name(request.name)))
        return [Deployment(core, self) for core in self._core.deploy_all(prepared)]

    def undeploy(self, deployment: Deployment) -> None:
        """Stops a deployment: waits for running executions, refuses new ones, returns its threads to the account.

        Raises:
            NotFoundError: not deployed here, or already undeployed.
        """
        if not isinstance(deployment, Deployment):
            raise InvalidArgumentError("undeploy() got the wrong type", expected="an ai_vmm.Deployment", found=type(deployment).__name__)
        self._core.undeploy(deployment._core)
        deployment._ended = True

    def inspect(self, source: Source) -> ModelProfile:
        """Reads and analyses a model without deploying it. Same errors as deploy() for what can't be read."""
        return _values.make_profile(self._core.inspect(*_source(source)))

    def plan(self, source: Source, constraints: Union[Constraints, Mapping[str, Any], None] = None, **more_constraints: Any) -> Explanation:
        """Plans as deploy() would, measuring within ``tune_ms``, without starting anything. Same errors as deploy()."""
        content, in_memory = _source(source)
        return Explanation(**self._core.plan(content, in_memory, normalize(constraints, more_constraints)))

    def copy(self, value: Any, place: str = "host") -> Tensor:
        """The elements of a tensor or array in another place; the same memory if they lie there already.

        Args:
            value: what an input of an execution may be.
            place: "host", or a GPU: "cuda:0", …

        Raises:
            InvalidArgumentError: no such place or device.
            UnimplementedError: no backend reaches it.
        """
        kind, _, number = place.partition(":") if isinstance(place, str) else (None, "", "")
        if not (place == "host" or (kind == "cuda" and number.isascii() and number.isdigit() and len(number) < 9)):
            raise InvalidArgumentError("there is no such place", expected='"host", "cuda:0", …', found=repr(place))
        return self._core.copy(value, 1 if place == "host" else 2, int(number or 0))

    def metrics(self) -> Metrics:
        """Counters of every deployment that is alive, of the cache and of the thread account."""
        return _values.make_metrics(self._core.metrics())

    def cache_report(self) -> CacheReport:
        """What is in the artifact cache."""
        return _values.make_cache_report(self._core.cache_report())

    def cache_collect(self, limit_bytes: Optional[int] = None) -> int:
        """Removes damaged and least recently used entries until `limit_bytes` (default: the limit in force) holds. Returns bytes freed."""
        if limit_bytes is not None and (isinstance(limit_bytes, bool) or not isinstance(limit_bytes, int) or not 0 <= limit_bytes < 2**63):
            raise InvalidArgumentError("limit_bytes has an unusable value", expected="an integer >= 0, or None", found=repr(limit_bytes))
        return self._core.cache_collect(limit_bytes)

    def cache_clear(self) -> int:
        """Removes everything from the artifact cache. Returns bytes freed."""
        return self._core.cache_clear()

    def __repr__(self) -> str:
        return f"<ai_vmm.VMM cache_dir={self._core.cache_report()['directory']!r}>"


def _name(name: Optional[str]) -> str:
    if name is None:
        return ""
    if not isinstance(name, str):
        raise InvalidArgumentError("name has the wrong type", expected="a str", found=type(name).__name__)
    return name

