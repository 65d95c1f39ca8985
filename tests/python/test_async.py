# SPDX-License-Identifier: Apache-2.0
"""execute_async, aexecute, timeouts, cancellation."""

import asyncio
import concurrent.futures
import threading

import numpy as np
import pytest

import ai_vmm
import models

A = np.arange(6, dtype=np.float32).reshape(2, 3)
X = np.ones(4, np.float32)


@pytest.fixture(scope="module")
def adder(deploy):
    return deploy(models.add())


def test_future(adder):
    futures = [adder.execute_async({"a": A * i, "b": A}) for i in range(50)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    done, waiting = concurrent.futures.wait(futures, timeout=60)
    assert not waiting and len(done) == 50
    for i, future in enumerate(futures):
        assert list(future.result()) == ["sum"] and np.array_equal(future.result()["sum"], A * i + A)


def test_errors_of_conversion_come_at_once_and_others_in_the_future(adder):
    with pytest.raises(ai_vmm.InvalidArgumentError, match="element type"):
        adder.execute_async({"a": A, "b": A.astype(np.int32)})
    errors = []
    try:
        future = adder.execute_async({"a": A})
        errors.append(future.exception(timeout=60))
    except ai_vmm.Error as error:
        errors.append(error)
    assert isinstance(errors[0], ai_vmm.InvalidArgumentError) and "'b'" in str(errors[0])


def test_done_callbacks_may_use_the_deployment(adder):
    results = []
    finished = threading.Event()

    def again(future):
        results.append(adder(future.result()["sum"], A))
        finished.set()

    adder.execute_async({"a": A, "b": A}).add_done_callback(again)
    assert finished.wait(60) and np.array_equal(results[0], 3 * A)


def test_asyncio(adder):
    async def main():
        first = await adder.aexecute({"a": A, "b": A})
        second = await adder.execute_async({"a": A, "b": A}, returns="tensor")
        many = await asyncio.gather(*(adder.aexecute({"a": A * i, "b": A}) for i in range(20)))
        with pytest.raises(ai_vmm.InvalidArgumentError):
            await adder.aexecute({"a": A})
        return first, second, many

    first, second, many = asyncio.run(main())
    assert np.array_equal(first["sum"], 2 * A) and isinstance(second["sum"], ai_vmm.Tensor)
    assert all(np.array_equal(result["sum"], A * i + A) for i, result in enumerate(many))


def test_timeout_ends_a_run(stalling):
    model = stalling()
    with pytest.raises(ai_vmm.DeadlineExceededError) as caught:
        model(X, timeout_ms=20)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(TimeoutError):
        model.execute({"x": X}, timeout_ms=20)
    with pytest.raises(TimeoutError):
        model.execute_into({"x": X}, [None], timeout_ms=20)
    with pytest.raises(TimeoutError):
        model.execute_async({"x": X}, timeout_ms=20).result(60)
    with pytest.raises(TimeoutError):
        model.execute_batch([{"x": X}], timeout_ms=20)
    assert model.metrics().cancelled >= 4


def test_cancel_ends_a_running_execution(stalling):
    model = stalling(streams=1)
    futures = [model.execute_async({"x": X}) for _ in range(3)]
    assert not any(future.done() for future in futures)
    for future in futures:
        assert future.cancel() and future.cancelled()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
    model.undeploy()  # returns only when the hour-long executions have really ended
    with pytest.raises(ai_vmm.FailedPreconditionError):
        model(X)


def test_cancelling_a_task_ends_its_execution(stalling):
    model = stalling()

    async def main():
        task = asyncio.create_task(model.aexecute({"x": X}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    model.undeploy()


def test_a_done_future_cannot_be_cancelled(adder):
    future = adder.execute_async({"a": A, "b": A})
    future.result(60)
    assert not future.cancel() and not future.cancelled()


def test_a_full_queue_refuses(null_library, tmp_path, stalling):
    vmm = ai_vmm.VMM(cache_dir=tmp_path, backend_paths=[null_library], load_installed_backends=False, max_queue=2)
    model = stalling(vmm=vmm, streams=1)
    futures = []
    with pytest.raises(ai_vmm.ResourceExhaustedError):
        for _ in range(100):
            futures.append(model.execute_async({"x": X}))
            if (error := futures[-1].exception(0) if futures[-1].done() else None) is not None:
                raise error
    assert 1 <= len(futures) < 100
    for future in futures:
        future.cancel()
    model.undeploy()
