# SPDX-License-Identifier: Apache-2.0
"""Converts PyTorch and Hugging Face models to OpenVINO IR, in a process of its own: `python -m ai_vmm_convert`.

The library starts it with limits on time, memory and file size, and reads back `model.xml`, `model.bin` and `result.json`. Nothing here reaches
for the network, runs code that a model brings along, or unpickles anything but plain tensors.
"""


class Refusal(Exception):
    """The model can't be converted. `code` is one of the library's error codes."""

    def __init__(self, code: str, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice
