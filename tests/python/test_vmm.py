# SPDX-License-Identifier: Apache-2.0
"""VMM: options, hardware, deploy and its relatives, cache, metrics, constraints."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

import ai_vmm
import models
from ai_vmm import VMM, Constraints, DeployRequest, InvalidArgumentError

A = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "adder.onnx"
    path.write_bytes(models.add().SerializeToString())
    return path


def test_hardware(vmm):
    hardware = vmm.discover_hardware()
    assert any(device.kind == "CPU" for device in hardware.devices)
    cpu = next(device for device in hardware.devices if device.kind == "CPU")
    assert cpu.id.startswith("cpu") and cpu.compute_units >= 1 and cpu.memory_total_bytes > 0 and cpu.routes
    assert {"openvino", "onnxruntime"} <= {backend.name for backend in hardware.backends if backend.loaded}
    assert [device.id for device in vmm.discover_hardware(refresh=True).devices] == [device.id for device in hardware.devices]
    assert json.dumps(dataclasses.asdict(hardware))
    with pytest.raises(dataclasses.FrozenInstanceError):
        cpu.id = "x"


@pytest.mark.parametrize("form", [str, pathlib.Path, lambda path: path.read_bytes(), lambda path: bytearray(path.read_bytes())])
def test_sources(vmm, file, form):
    model = vmm.deploy(form(file), tune_ms=0)
    assert np.array_equal(model(A, A), 2 * A)
    model.undeploy()


def test_names(vmm, file):
    assert vmm.deploy(file, tune_ms=0).describe().name == "adder"
    assert vmm.deploy(file, tune_ms=0, name="zwölf").describe().name == "zwölf"
    with pytest.raises(InvalidArgumentError):
        vmm.deploy(file, name=3)


def test_describe_and_explain(vmm, file):
    model = vmm.deploy(file, tune_ms=0)
    description = model.describe()
    assert description.engine and description.device.startswith("cpu") and description.source == str(file)
    assert [info.name for info in description.profile.inputs] == ["a", "b"] and description.profile.format == "onnx"
    assert description.deploy_ms > 0 and all(isinstance(step, str) and ms >= 0 for step, ms in description.deploy_steps_ms)
    explanation = model.explain()
    assert str(explanation) == explanation.text and isinstance(explanation.as_dict(), dict)
    assert json.dumps(dataclasses.asdict(description))


def test_inspect_and_plan(vmm, file):
    profile = vmm.inspect(file)
    assert [info.name for info in profile.outputs] == ["sum"] and profile.file_size_bytes == file.stat().st_size
    assert [info.name for info in vmm.inspect(file.read_bytes()).inputs] == ["a", "b"]
    assert vmm.plan(file, tune_ms=0, goal="throughput").as_dict()


def test_metrics_count(vmm, file):
    model = vmm.deploy(file, tune_ms=0, name="counted")
    for _ in range(3):
        model(A, A)
    metrics = model.metrics()
    assert metrics.executions == 3 and metrics.failures == 0 and metrics.name == "counted" and metrics.latency_p50_ms > 0
    total = vmm.metrics()
    assert any(deployment.name == "counted" for deployment in total.deployments) and total.threads_total >= 1


def test_undeploy(vmm, file):
    model = vmm.deploy(file, tune_ms=0)
    model.undeploy()
    assert "ended" in repr(model)
    with pytest.raises(ai_vmm.FailedPreconditionError):
        model(A, A)
    with pytest.raises(ai_vmm.NotFoundError):
        vmm.undeploy(model)
    with pytest.raises(InvalidArgumentError):
        vmm.undeploy("adder")
    with vmm.deploy(file, tune_ms=0) as inner:
        assert np.array_equal(inner(A, A), 2 * A)
    with pytest.raises(ai_vmm.FailedPreconditionError):
        inner(A, A)
    with vmm.deploy(file, tune_ms=0) as inner:
        inner.undeploy()


def test_deploy_all(vmm, file):
    fast = {"tune_ms": 0}
    one, two, three = vmm.deploy_all([DeployRequest(file, {**fast, "priority": 2}, "one"), (file, fast), DeployRequest(file.read_bytes(), Constraints(tune_ms=0))])
    assert one.describe().name == "one"
    for model in (one, two, three):
        assert np.array_equal(model(A, A), 2 * A)
        model.undeploy()
    before = len(vmm.metrics().deployments)
    with pytest.raises(ai_vmm.NotFoundError):
        vmm.deploy_all([(file, fast), (file.with_name("missing.onnx"), fast)])
    assert len(vmm.metrics().deployments) == before
    assert vmm.deploy_all([]) == []
    with pytest.raises(InvalidArgumentError):
        vmm.deploy_all([(file, fast, "name")])


def test_cache(tmp_path, file):
    vmm = VMM(cache_dir=tmp_path / "cache", cache_limit_bytes=1 << 30)
    first = vmm.deploy(file, tune_ms=0)
    report = vmm.cache_report()
    assert report.directory == str(tmp_path / "cache") and report.writable and report.limit_bytes == 1 << 30
    assert report.entries and report.size_bytes >= sum(entry.size_bytes for entry in report.entries) > 0
    again = VMM(cache_dir=tmp_path / "cache").deploy(file, tune_ms=0)
    assert np.array_equal(again(A, A), first(A, A))
    assert vmm.cache_collect() == 0
    assert vmm.cache_collect(0) > 0 and not vmm.cache_report().entries
    vmm.deploy(file, tune_ms=0)
    assert vmm.cache_clear() > 0 and vmm.cache_clear() == 0
    with pytest.raises(InvalidArgumentError):
        vmm.cache_collect(-1)
    assert str(tmp_path) in repr(vmm)


def test_without_cache(tmp_path, file):
    vmm = VMM(cache_dir=tmp_path / "cache", use_cache=False)
    vmm.deploy(file, tune_ms=0)
    assert not vmm.cache_report().entries


@pytest.mark.parametrize(
    "options",
    [{"cache_dir": 3}, {"cache_limit_bytes": "8"}, {"cache_limit_bytes": -1}, {"max_queue": -1}, {"max_queue": 1.5}, {"progress": 3}, {"backend_paths": [3]}],
)
def test_wrong_options(options):
    with pytest.raises(InvalidArgumentError):
        VMM(**options)


def test_backends_by_path(null_library, tmp_path):
    vmm = VMM(cache_dir=tmp_path, backend_paths=null_library, load_installed_backends=False)
    assert [backend.name for backend in vmm.discover_hardware().backends if backend.loaded] == ["null"]


def test_progress(tmp_path, file):
    seen = []
    vmm = VMM(cache_dir=tmp_path, use_cache=False, progress=lambda stage, fraction: seen.append((stage, fraction)))
    vmm.deploy(file, tune_ms=0)
    assert len(seen) > 1 and all(isinstance(stage, str) and stage and 0 <= fraction <= 1 for stage, fraction in seen)


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_progress_ends_the_deploy(tmp_path, file, kind):
    stop = True

    def progress(stage, fraction):
        if stop:
            raise kind("stop")

    vmm = VMM(cache_dir=tmp_path, use_cache=False, progress=progress)
    with pytest.raises(kind) as caught:
        vmm.deploy(file, tune_ms=0)
    assert caught.value.args == ("stop",) and not isinstance(caught.value, ai_vmm.Error)
    stop = False
    assert np.array_equal(vmm.deploy(file, tune_ms=0)(A, A), 2 * A)


def test_constraints_as_dict_object_and_keywords(vmm, file):
    for constraints, more in (
        ({"goal": "throughput", "tune_ms": 0}, {}),
        (Constraints(goal="throughput", tune_ms=0), {}),
        (Constraints(tune_ms=0), {"goal": "throughput"}),
        ({"tune_ms": 0}, {"goal": "throughput"}),
        (None, {"goal": "throughput", "tune_ms": 0}),
    ):
        assert np.array_equal(vmm.deploy(file, constraints, **more)(A, A), 2 * A)


def test_constraints_reach_the_plan(vmm, file):
    model = vmm.deploy(file, engines="onnxruntime", precision="f32", threads=1, devices=["cpu:0"], tune_ms=0)
    description = model.describe()
    assert description.engine.startswith("onnxruntime") and description.precision == "f32" and description.threads == 1
    assert vmm.deploy(file, engines=["openvino"], tune_ms=0).describe().engine.startswith("openvino")


def test_shapes_and_calibration_reach_the_plan(vmm):
    source = models.identity(shape=["n", 3]).SerializeToString()
    model = vmm.deploy(source, input_shapes={"x": (4, 3)}, calibration={"x": np.ones((4, 3), np.float32)}, tune_ms=0)
    assert dict(model.describe().profile.assumed_shapes)["x"] == (4, 3)
    with pytest.raises(InvalidArgumentError):
        vmm.deploy(source, calibration={"x": object()}, tune_ms=0)


@pytest.mark.parametrize(
    "constraints, words",
    [
        ({"max_latency": 10}, ["'max_latency'", "did you mean 'max_latency_ms'"]),
        ({"Devices": "cpu"}, ["did you mean 'devices'"]),
        ({"zzz": 1}, ["'zzz'", "one of"]),
        ({3: 1}, ["3"]),
        ({"max_latency_ms": "10"}, ["'max_latency_ms'", "number", "'10'"]),
        ({"max_latency_ms": float("nan")}, ["'max_latency_ms'"]),
        ({"threads": 1.5}, ["'threads'", "integer"]),
        ({"threads": True}, ["'threads'"]),
        ({"goal": "speed"}, ["goal", "'latency'", "speed"]),
        ({"precision": "f8"}, ["precision", "f8"]),
        ({"forbid_precisions": ["f8"]}, ["precision", "f8"]),
        ({"devices": 3}, ["'devices'"]),
        ({"devices": [3]}, ["'devices'"]),
        ({"input_shapes": [1]}, ["'input_shapes'"]),
        ({"input_shapes": {"x": "12"}}, ["'input_shapes'"]),
        ({"calibration": [1]}, ["'calibration'"]),
        ({"devices": ["tpu:9"]}, ["tpu:9"]),
        ({"engines": ["nothing"]}, ["nothing"]),
        ("fast", ["dict", "str"]),
    ],
)
def test_wrong_constraints(vmm, file, constraints, words):
    with pytest.raises(InvalidArgumentError) as caught:
        vmm.deploy(file, constraints)
    for word in words:
        assert word in str(caught.value)


def test_a_constraint_given_twice(vmm, file):
    with pytest.raises(InvalidArgumentError, match="twice"):
        vmm.deploy(file, {"tune_ms": 0}, tune_ms=1)


def test_an_impossible_constraint_is_refused_with_an_offer(vmm, tmp_path):
    with pytest.raises(ai_vmm.FailedPreconditionError) as caught:
        vmm.deploy(models.matmuls().SerializeToString(), max_latency_ms=1e-6, tune_ms=100)
    assert caught.value.category is ai_vmm.ErrorCategory.PERFORMANCE and caught.value.advice


def test_the_defaults_are_the_librarys(source_dir):
    header = (source_dir / "include" / "ai_vmm" / "constraints.hpp").read_text()
    body = header[header.index("struct Constraints") :]
    for field in dataclasses.fields(Constraints):
        assert f" {field.name.removesuffix('_ms') if field.name == 'tune_ms' else field.name}" in body
    assert "tune{2000}" in body and Constraints().tune_ms == 2000 and Constraints().priority == 1.0
