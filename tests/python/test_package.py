# SPDX-License-Identifier: Apache-2.0
"""The package itself: hints, docstrings, stub, the command, the guide."""

import ast
import inspect
import os
import re
import subprocess
import sys

import pytest

import ai_vmm
from ai_vmm import _core


def test_it_is_the_built_one(build_dir):
    assert os.path.realpath(ai_vmm.__file__).startswith(os.path.realpath(build_dir / "python"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", ai_vmm.__version__)


def test_everything_exported_exists_and_has_a_docstring():
    for name in ai_vmm.__all__:
        value = getattr(ai_vmm, name)
        if not inspect.isclass(value):
            continue
        assert inspect.getdoc(value), name
        for member_name, member in vars(value).items():
            if not member_name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{name}.{member_name}"


def test_the_stub_names_what_the_extension_has(source_dir):
    stub = ast.parse((source_dir / "python" / "ai_vmm" / "_core.pyi").read_text())

    def names(body):
        return {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

    ignored = {"__doc__", "__name__", "__loader__", "__spec__", "__package__", "__file__"}
    assert names(stub.body) == set(vars(_core)) - ignored
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            public = {name for name in vars(getattr(_core, node.name)) if not name.startswith("__")}
            assert {name for name in names(node.body) if not name.startswith("__")} == public, node.name


def test_the_package_is_typed(build_dir):
    assert (build_dir / "python" / "ai_vmm" / "py.typed").exists() and (build_dir / "python" / "ai_vmm" / "_core.pyi").exists()


def test_mypy(build_dir):
    pytest.importorskip("mypy")
    result = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(build_dir / "python" / "ai_vmm")], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def run_module(build_dir, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ai_vmm", *arguments], env={**os.environ, "PYTHONPATH": str(build_dir / "python"), **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_module_runs_the_command(build_dir):
    command = build_dir / "bin" / "vmm"
    if not command.exists():
        result = run_module(build_dir, "--version", PATH="/nonexistent")
        assert result.returncode == 127 and "vmm command is not there" in result.stderr
        return
    assert run_module(build_dir, "--version").stdout == subprocess.run([command, "--version"], capture_output=True, text=True).stdout
    assert run_module(build_dir, "no-such-command").returncode == subprocess.run([command, "no-such-command"], capture_output=True).returncode != 0


def test_the_guide_runs(source_dir, tmp_path, monkeypatch):
    """Every Python block of the guide, one after another in one namespace; lines `# -> value` state what the line before gives."""
    import models

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AI_VMM_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "model.onnx").write_bytes(models.sub_and_mul().SerializeToString())
    (tmp_path / "add.onnx").write_bytes(models.add().SerializeToString())
    (tmp_path / "words.onnx").write_bytes(models.identity("string").SerializeToString())
    (tmp_path / "half.onnx").write_bytes(models.identity("bf16").SerializeToString())
    text = (source_dir / "docs" / "guide" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/guide/python.md", "exec"), namespace)
        for expression, value in re.findall(r"^(?!#)(\S[^\n]*?)\s+# -> (.+)$", block, re.MULTILINE):
            expression = re.sub(r"^\w+ = ", "", expression)
            assert repr(eval(expression, namespace)) == value, expression
