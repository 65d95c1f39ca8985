# SPDX-License-Identifier: Apache-2.0
"""Errors: classes, attributes, pickling; what bad files raise."""

import copy
import pickle
import re

import pytest

import ai_vmm
import models
from ai_vmm import ErrorCategory, ErrorCode
from ai_vmm._errors import make_error

BUILT_IN = {
    "invalid_argument": ValueError, "deadline_exceeded": TimeoutError, "not_found": FileNotFoundError, "already_exists": FileExistsError,
    "permission_denied": PermissionError, "out_of_range": IndexError, "unimplemented": NotImplementedError, "failed_precondition": RuntimeError,
    "internal": RuntimeError, "unavailable": RuntimeError, "data_loss": RuntimeError, "aborted": RuntimeError, "resource_exhausted": RuntimeError,
}  # fmt: skip


def test_codes_are_those_of_the_library(source_dir):
    header = (source_dir / "include" / "ai_vmm" / "error.hpp").read_text()
    codes = re.findall(r"^\s+(\w+) = (\d+),", header, re.MULTILINE)
    assert {(str(code), code.value) for code in ErrorCode} == {(name, int(number)) for name, number in codes}
    categories = re.findall(r"case ErrorCategory::(\w+)", header)
    assert {category.value for category in ErrorCategory} == set(categories)


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.OK], ids=str)
def test_one_class_per_code(code):
    error = make_error(str(code), "system", "it broke", "a", "b", "c")
    assert isinstance(error, ai_vmm.Error) and error.code is code and type(error).code is code
    assert type(error).__name__ in ai_vmm.__all__ and type(error).__doc__
    assert isinstance(error, BUILT_IN.get(str(code), Exception))
    assert str(error) == "it broke; expected: a; found: b; to do: c"
    assert error.category is ErrorCategory.SYSTEM and error.category == "system"
    assert (error.message, error.expected, error.found, error.advice) == ("it broke", "a", "b", "c")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error) and vars(other) == vars(error) and str(other) == str(error)


def test_a_plain_error_says_only_its_message():
    assert str(make_error("internal", "runtime", "it broke", "", "", "")) == "it broke"
    assert repr(ai_vmm.InvalidArgumentError("x")) == "InvalidArgumentError('x')"


def test_missing_file(vmm, tmp_path):
    for call in (vmm.deploy, vmm.inspect, vmm.plan):
        with pytest.raises(FileNotFoundError) as caught:
            call(tmp_path / "näher.onnx")
        assert isinstance(caught.value, ai_vmm.NotFoundError) and "näher.onnx" in str(caught.value) and caught.value.code == 5


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\x08\x0a\x12", b"not a model at all", bytes(range(256)) * 10])
def test_malformed_content(vmm, content):
    with pytest.raises(ai_vmm.Error) as caught:
        vmm.deploy(content, tune_ms=0)
    assert caught.value.code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.UNIMPLEMENTED)


def test_truncated_model(vmm):
    whole = models.matmuls(2, 16).SerializeToString()
    for length in (10, len(whole) // 2, len(whole) - 3):
        with pytest.raises(ai_vmm.InvalidArgumentError):
            vmm.deploy(whole[:length], tune_ms=0)


def test_an_operator_that_nobody_has(vmm):
    from onnx import helper

    model = models.model([helper.make_node("Nonsense", ["x"], ["y"])], [models.value("x", "f32", [1])], [models.value("y", "f32", [1])])
    with pytest.raises(ai_vmm.Error) as caught:
        vmm.deploy(model.SerializeToString(), tune_ms=0)
    assert "Nonsense" in str(caught.value) and "onnxruntime" in str(caught.value) and "openvino" in str(caught.value)
    assert caught.value.code == ErrorCode.UNIMPLEMENTED


@pytest.mark.parametrize("source", [3, None, 1.5, ["a"], "a\0b"])
def test_wrong_source_types(vmm, source):
    with pytest.raises(ai_vmm.Error) as caught:
        vmm.deploy(source)
    assert caught.value.code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_FOUND)


def test_a_failing_engine(null_vmm, monkeypatch):
    import numpy as np

    monkeypatch.setenv("AI_VMM_NULL_FAULT", models.late("run"))
    model = models.use_up(models.deploy_null(null_vmm))
    before = model.metrics().failures
    with pytest.raises(ai_vmm.InternalError, match="injected fault"):
        model(np.ones(4, np.float32))
    with pytest.raises(ai_vmm.InternalError, match="injected fault"):
        model.execute_async({"x": np.ones(4, np.float32)}).result(60)
    assert model.metrics().failures == before + 2


def wrong_channels(shape):
    """Filters of five channels for an image of three."""
    filters = models.numpy_helper.from_array(models.np.ones((8, 5, 3, 3), models.np.float32), "w")
    node = models.helper.make_node("Conv", ["x", "w"], ["y"])
    return models.model([node], [models.value("x", "f32", shape)], [models.value("y", "f32", None)], [filters]).SerializeToString()


def test_a_model_that_never_runs_is_refused(vmm):
    with pytest.raises(ai_vmm.InvalidArgumentError) as caught:
        vmm.deploy(wrong_channels([1, 3, 16, 16]))
    assert "fails on every input" in caught.value.message and "channels" in caught.value.found and "weights" in caught.value.advice


def test_calibration_that_never_runs_is_refused(vmm):
    content, image = wrong_channels(["n", "c", "h", "w"]), models.np.zeros((1, 3, 16, 16), models.np.float32)
    with pytest.raises(ai_vmm.InvalidArgumentError, match="fails on every input"):
        vmm.deploy(content, calibration={"x": image})
