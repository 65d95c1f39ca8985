# SPDX-License-Identifier: Apache-2.0
"""The CNN as TorchScript (.pt), as a torch.export program (.pt2), and as a bare state dictionary (.pth, which holds no graph)."""

import io
import logging
import warnings
import zipfile

import torch

from checkpoints import example_input, load_net
from common import MODELS, seed_everything


def without_debug_records(archive: bytes) -> bytes:
    """A TorchScript archive less its debug_pkl records, which hold file names of the machine that made it; data stays aligned to 64 bytes."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            if item.filename.endswith(".debug_pkl"):
                continue
            record = zipfile.ZipInfo(item.filename)
            header = 30 + len(item.filename.encode())
            padding = -(result.tell() + header + 4) % 64
            record.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            target.writestr(record, source.read(item))
    return result.getvalue()


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    seed_everything()
    net, image = load_net("digits_cnn"), example_input("digits_cnn")
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(net, image), buffer)
    (MODELS / "digits_cnn.pt").write_bytes(without_debug_records(buffer.getvalue()))

    program = torch.export.export(net, (image,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
    program._example_inputs = None  # keeps training data out of the file
    torch.export.save(program, MODELS / "digits_cnn.pt2")

    torch.save(load_net("digits_cnn", fold=False).state_dict(), MODELS / "digits_cnn.state_dict.pth")


if __name__ == "__main__":
    main()
