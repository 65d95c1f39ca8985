# SPDX-License-Identifier: Apache-2.0
"""What scripts/race_reports.py makes of racecheck's output."""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "race_reports.py"
spec = importlib.util.spec_from_file_location("race_reports", SCRIPT)
race_reports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(race_reports)

LIBRARY = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x64x64"
OURS = "k0123456789abcdef"


def log(*kernels: str, displayed: int | None = None) -> str:
    text = "[ RUN      ] a case\n"
    for kernel in kernels:
        text += f"========= Error: Race reported between Write access at {kernel}+0x9a0\n"
        text += f"=========     and Read access at {kernel}+0xb30 [512 hazards]\n"
        text += "=========         Host Frame: cudnnBackendExecute [0x1234] in libcudnn.so.9\n=========\n"
    count = len(kernels) if displayed is None else displayed
    return text + f"========= RACECHECK SUMMARY: {count} hazards displayed ({count} errors, 0 warnings)\n"


def test_reports_within_libraries_are_counted() -> None:
    wrong, libraries = race_reports.judge(log(LIBRARY, LIBRARY))
    assert wrong == []
    assert libraries == {LIBRARY: 2}
    assert race_reports.judge(log()) == ([], {})


def test_a_report_in_a_generated_kernel_fails() -> None:
    wrong, libraries = race_reports.judge(log(LIBRARY, OURS))
    assert len(wrong) == 1
    assert OURS in wrong[0]
    assert libraries == {LIBRARY: 1}


def test_what_is_unknown_fails() -> None:
    assert len(race_reports.judge(log("somebody_elses_kernel"))[0]) == 1


def test_what_is_not_in_the_log_fails() -> None:
    assert "counts 3" in race_reports.judge(log(LIBRARY, displayed=3))[0][0]
    assert "no summary" in race_reports.judge("[  PASSED  ] 848 tests.")[0][0]


def test_the_exit_status(tmp_path: pathlib.Path) -> None:
    for kernel, status in ((LIBRARY, 0), (OURS, 1)):
        path = tmp_path / f"{kernel}.log"
        path.write_text(log(kernel))
        done = subprocess.run([sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout
        assert f"races: {status} failed" in done.stdout
