# SPDX-License-Identifier: Apache-2.0
"""Threads, the GIL, and who keeps what alive."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

import ai_vmm
import models

A = np.arange(6, dtype=np.float32).reshape(2, 3)
X = np.ones(4, np.float32)


@pytest.fixture(scope="module")
def adder(deploy):
    return deploy(models.add())


def test_many_threads_call_one_deployment(adder):
    errors = []

    def work(seed):
        try:
            for i in range(100):
                a = np.full((2, 3), seed * 1000 + i, np.float32)
                assert np.array_equal(adder(a, A), a + A)
                assert np.array_equal(adder.execute_async({"a": a, "b": A}).result(60)["sum"], a + A) or i % 10
        except BaseException as error:
            errors.append(error)

    before = adder.metrics().executions
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and adder.metrics().executions == before + 8 * 200


@pytest.fixture
def no_forced_switches():
    """A thread that holds the GIL keeps it until it releases it by itself."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


def progress_during(call):
    """How often another thread ran while `call` did; 0 if the GIL was held all along."""
    count = 0
    stop = False
    counts = []

    def work():
        before = count
        try:
            call()
        except ai_vmm.DeadlineExceededError:
            pass
        counts.append(count - before)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive() and not stop:
        count += 1
        time.sleep(0)  # releases the GIL; the other thread takes it back only when its call has ended
    thread.join()
    return counts[0]


def test_the_gil_is_free_while_an_execution_runs(stalling, no_forced_switches):
    model = stalling()
    assert progress_during(lambda: None) == 0  # the measure itself
    assert progress_during(lambda: model(X, timeout_ms=200)) > 10
    assert progress_during(lambda: model.execute_batch([X], timeout_ms=200)) > 10
    assert progress_during(lambda: model.execute_into(X, [None], timeout_ms=200)) > 10


def test_the_gil_is_free_while_deploying(vmm, no_forced_switches):
    source = models.matmuls().SerializeToString()
    assert progress_during(lambda: vmm.deploy(source, tune_ms=200)) > 10


def test_outputs_outlive_the_deployment_and_the_manager(tmp_path):
    vmm = ai_vmm.VMM(cache_dir=tmp_path, use_cache=False)
    model = vmm.deploy(models.add().SerializeToString(), tune_ms=0)
    outputs = [model(A, A) for _ in range(3)] + [model(A, A, returns="tensor").numpy()]
    model.undeploy()
    del model, vmm
    gc.collect()
    for y in outputs:
        assert np.array_equal(y, 2 * A)


def test_a_deployment_outlives_its_managers_name(tmp_path):
    model = ai_vmm.VMM(cache_dir=tmp_path, use_cache=False).deploy(models.add().SerializeToString(), tune_ms=0)
    gc.collect()
    assert np.array_equal(model(A, A), 2 * A)
    model.undeploy()


def test_inputs_are_let_go_after_the_call(adder):
    for call in (lambda a: adder(a, A), lambda a: adder.execute_batch([{"a": a, "b": A}]), lambda a: adder.execute_into({"a": a, "b": A}, [None])):
        a = A.copy()
        alive = weakref.ref(a)
        call(a)
        del a
        gc.collect()
        assert alive() is None


def test_inputs_of_asynchronous_executions_live_until_the_end(stalling):
    model = stalling()
    x = X.copy()
    alive = weakref.ref(x)
    future = model.execute_async({"x": x})
    del x
    gc.collect()
    assert alive() is not None
    future.cancel()
    model.undeploy()
    deadline = 600
    while alive() is not None and deadline > 0:  # the worker thread has handed it back, or is about to
        time.sleep(0.1)
        deadline -= 1
    assert alive() is None


def test_dropping_everything_while_running(stalling, null_library, tmp_path):
    vmm = ai_vmm.VMM(cache_dir=tmp_path, backend_paths=[null_library], load_installed_backends=False)
    model = stalling("300ms", vmm)
    results = []
    thread = threading.Thread(target=lambda run: results.append(run(X)), args=(model,))
    thread.start()
    future = model.execute_async({"x": X})
    del model, vmm
    gc.collect()
    assert future.result(60)["y"].tolist() == [0, 0, 0, 0]
    thread.join()
    assert results[0].tolist() == [0, 0, 0, 0]


def test_the_last_reference_may_go_in_a_done_callback(stalling, null_library, tmp_path):
    vmm = ai_vmm.VMM(cache_dir=tmp_path, backend_paths=[null_library], load_installed_backends=False)
    holder = [stalling("100ms", vmm)]
    ended = threading.Event()

    def drop(future):
        holder.clear()
        ended.set()

    future = holder[0].execute_async({"x": X})
    future.add_done_callback(drop)
    del vmm
    assert ended.wait(60) and not holder and future.result(60)["y"].tolist() == [0] * 4


def test_a_manager_in_a_circle_is_collected(tmp_path):
    class Owner:
        def __init__(self):
            self.vmm = ai_vmm.VMM(cache_dir=tmp_path, use_cache=False, progress=self.progress)

        def progress(self, stage, fraction):
            self.seen = stage

    owner = Owner()
    owner.vmm.deploy(models.add().SerializeToString(), tune_ms=0).undeploy()
    assert owner.seen
    alive = weakref.ref(owner.vmm)
    del owner
    gc.collect()
    assert alive() is None


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_many_calls_leak_nothing(adder, deploy):
    big = deploy(models.identity())
    x = np.zeros(1 << 18, np.float32)  # 1 MiB

    def work(count):
        for i in range(count):
            big(x)
            big(x, returns="tensor").numpy()
            big.execute_async({"x": x}).result(60)
            big.execute_batch([x])
            adder(A, A)
            for wrong in ({"a": A}, {"a": A, "b": x}, {"a": A, "b": A.astype(np.int8)}):
                with pytest.raises(ai_vmm.Error):
                    adder(wrong)

    work(20)
    gc.collect()
    references = sys.getrefcount(x)
    before = resident_kib()
    work(100)
    gc.collect()
    assert sys.getrefcount(x) <= references + 4  # what the last asynchronous ones hand back with the next call
    assert resident_kib() - before < 64 * 1024  # 400 outputs of 1 MiB would be 400 MiB


def run_python(build_dir, code, **environment):
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(build_dir / "python"), os.path.dirname(__file__)]), **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_exit_with_executions_under_way(build_dir, null_library, tmp_path):
    result = run_python(
        build_dir,
        f"""
        import numpy as np, ai_vmm, models
        vmm = ai_vmm.VMM(cache_dir={str(tmp_path)!r}, backend_paths=[{str(null_library)!r}], load_installed_backends=False)
        model = models.use_up(models.deploy_null(vmm))
        for _ in range(3):
            future = model.execute_async({{"x": np.ones(4, np.float32)}})
        future.add_done_callback(lambda future: print("done", future.result()["y"].tolist()))
        """,
        AI_VMM_NULL_FAULT=models.late("stall", "300ms"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "done [0.0, 0.0, 0.0, 0.0]" and result.stderr == ""


def test_exit_in_the_middle_of_a_daemon_thread(build_dir, null_library, tmp_path):
    result = run_python(
        build_dir,
        f"""
        import threading, time, numpy as np, ai_vmm, models
        vmm = ai_vmm.VMM(cache_dir={str(tmp_path)!r}, backend_paths=[{str(null_library)!r}], load_installed_backends=False)
        model = models.use_up(models.deploy_null(vmm))
        started = threading.Event()
        def work():
            started.set()
            model(np.ones(4, np.float32))
        threading.Thread(target=work, daemon=True).start()
        started.wait()
        print("bye")
        """,
        AI_VMM_NULL_FAULT=models.late("stall", "2s"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "bye"


def test_an_interrupt_ends_a_deploy(build_dir, tmp_path):
    result = run_python(
        build_dir,
        f"""
        import _thread, signal, threading, time, ai_vmm, models
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
        vmm = ai_vmm.VMM(cache_dir={str(tmp_path)!r}, use_cache=False)
        source = models.matmuls(8, 64).SerializeToString()
        def interrupt():
            time.sleep(0.02)
            _thread.interrupt_main()
        threading.Thread(target=interrupt).start()
        try:
            vmm.deploy(source, tune_ms=60000)
        except KeyboardInterrupt:
            print("interrupted")
        model = vmm.deploy(source, tune_ms=0)
        print(len(vmm.metrics().deployments))
        """,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["interrupted", "1"]
