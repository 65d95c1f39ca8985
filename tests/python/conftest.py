# SPDX-License-Identifier: Apache-2.0
"""Fixtures. The build folder is $AI_VMM_BUILD_DIR, else build/ beside the sources."""

import os
import pathlib
import sys

import pytest

SOURCE_DIR = pathlib.Path(__file__).resolve().parents[2]
BUILD_DIR = pathlib.Path(os.environ.get("AI_VMM_BUILD_DIR", SOURCE_DIR / "build")).resolve()
sys.path.insert(0, str(BUILD_DIR / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import ai_vmm  # noqa: E402


@pytest.fixture(scope="session")
def build_dir():
    return BUILD_DIR


@pytest.fixture(scope="session")
def source_dir():
    return SOURCE_DIR


@pytest.fixture(scope="session")
def vmm(tmp_path_factory):
    """One manager for all tests, with a cache of its own."""
    return ai_vmm.VMM(cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def deploy(vmm):
    """Deploys a model, predicting only: the tests are not about the choice."""

    def deploy_model(model, **constraints):
        source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        return vmm.deploy(source, {"tune_ms": 0, **constraints})

    return deploy_model


@pytest.fixture(scope="session")
def null_library(build_dir):
    """The backend that computes nothing and fails on demand."""
    library = build_dir / "lib" / "test_backends" / "libai_vmm_backend_null.so"
    if not library.exists():
        pytest.skip(f"{library} is not built")
    return library


@pytest.fixture
def null_vmm(null_library, tmp_path):
    """A manager that has only the null backend; faults through AI_VMM_NULL_FAULT, read at each deploy."""
    return ai_vmm.VMM(cache_dir=tmp_path / "cache", backend_paths=[null_library], load_installed_backends=False)


@pytest.fixture
def stalling(null_vmm, monkeypatch):
    """Deploys a model whose every execution hangs for `duration` or until it is cancelled."""
    import models

    def deploy_stalling(duration="3600s", vmm=null_vmm, **constraints):
        monkeypatch.setenv("AI_VMM_NULL_FAULT", models.late("stall", duration))
        return models.use_up(models.deploy_null(vmm, **constraints))

    return deploy_stalling
