# SPDX-License-Identifier: Apache-2.0
"""Usage: python -m ai_vmm_convert FORMAT MODEL FOLDER

FORMAT is torchscript, torch_export or huggingface; MODEL a file or directory; FOLDER takes the results. `result.json` is written last:
{"ok": true, "notes": [...]} beside model.xml and model.bin, or {"ok": false, "code": "unimplemented", "message": "…", "advice": "…"}.
"""

import json
import os
import pathlib
import sys

# Before any import that reads them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TRANSFORMERS_VERBOSITY="error",
    TORCH_FORCE_WEIGHTS_ONLY_LOAD="1",  # torch.load() of anything but tensors fails, whoever calls it
    TOKENIZERS_PARALLELISM="false",
)


def convert(kind: str, path: pathlib.Path, folder: pathlib.Path) -> dict:
    from . import Refusal

    try:
        if kind == "torchscript":
            from .pytorch import convert_torchscript as run
        elif kind == "torch_export":
            from .pytorch import convert_exported as run
        elif kind == "huggingface":
            from .huggingface import convert_directory as run
        else:
            raise Refusal("invalid_argument", f"unknown format {kind!r}")
    except ImportError as error:
        return {"ok": False, "code": "unavailable", "message": f"the conversion environment lacks a package: {error}", "advice": "run `make convert-env` again"}

    import openvino

    try:
        model, notes = run(path)
        # Weights as they are: which precision to use is decided later, by measurement.
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
        return {"ok": True, "notes": notes}
    except Refusal as refusal:
        return {"ok": False, "code": refusal.code, "message": str(refusal), "advice": refusal.advice}
    except MemoryError:
        return {"ok": False, "code": "resource_exhausted", "message": "not enough memory to convert the model", "advice": ""}


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[3])
    result = convert(sys.argv[1], pathlib.Path(sys.argv[2]), folder)
    partial = folder / "result.part"
    partial.write_text(json.dumps(result))
    partial.rename(folder / "result.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
