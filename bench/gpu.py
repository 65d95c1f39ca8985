#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cuda backend beside PyTorch on the same GPU, in one run: outputs are compared before anything is timed, the two are timed in turn, medians are
reported with their spread, and for each model the bytes and FLOPs it must move and do against the GPU's measured peaks. What the output file has of other
models, of the same commit, device, driver and PyTorch, stays.

    bench/gpu.py [--program build/bin/gpu_program] [--filter TEXT] [--precisions f32,f16] [--alone] [--compile] [--rounds N] [--keep FOLDER]
                 [--output bench/results/gpu.json]

Models come from torchvision and transformers with random weights, exported to ONNX here; nothing is downloaded. Outputs are compared with those of PyTorch
in f32 on the CPU: the relative error may be 1e-4 in f32 and 1e-2 in f16. PyTorch runs each in f16 (convolution nets channels-last) as a CUDA graph, with
--compile also through torch.compile; with --alone it does not run, which leaves the comparison of outputs: of f32 for every model in one run with
--alone --precisions f32. Ratios above 1 favour AI VMM. The exit status is 1 if a model failed or does not agree. Needs torch, torchvision, transformers, onnx.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any, Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent

LIMITS = {"f32": 1e-4, "f16": 1e-2}  # of the relative error against PyTorch in f32 on the CPU


def commit() -> str:
    """Of the source tree, or of what scripts/gpu_pack.sh packed."""
    packed = ROOT / "commit"
    if packed.is_file():
        return packed.read_text().strip()
    return subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def about() -> dict[str, str]:
    """What results depend on: the first GPU, its driver (empty where nvidia-smi is missing), the commit."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "-i", "0"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() if shutil.which(query[0]) else ""
    name, _, driver = answer.partition(", ")
    return {"device": name, "driver": driver, "commit": commit()}


def build_models() -> dict[str, Callable[[], tuple[Any, tuple[Any, ...], bool]]]:
    """Name -> function giving (module in f32 on the CPU, example inputs, channels-last)."""
    import torch
    from torch import nn

    def normalised(module: nn.Module, *inputs: Any) -> nn.Module:
        """Batch norms with the statistics of the inputs: with untrained ones activations vanish in f16."""
        norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None
        if norms:
            module.train()
            with torch.no_grad():
                module(*inputs)
        return module.eval()

    def vision(name: str, batch: int, size: int = 224):
        import torchvision

        def make():
            module = getattr(torchvision.models, name)(weights=None)
            if "net_v3" in name or "efficientnet" in name:
                normalised(module, torch.randn(16, 3, size, size))
            if name.startswith("vit"):
                nn.init.normal_(module.heads.head.weight, std=0.02)  # zeros otherwise, and with them every output
            return module, (torch.randn(batch, 3, size, size),), True

        return make

    class Transformer(nn.Module):
        """A transformers model that gives its last hidden state alone. `build` makes it for an attention implementation."""

        def __init__(self, build: Callable[[str], nn.Module]) -> None:
            super().__init__()
            self.build = build
            self.model = build("eager")  # what can be exported

        def forward(self, x: Any) -> Any:
            return self.model(x).last_hidden_state

        def use_fastest_attention(self) -> None:
            """The same model with PyTorch's fused attention. A new one: some can't be switched once they are made, and only warn."""
            twin = self.build("sdpa")
            twin.load_state_dict(self.model.state_dict())
            self.model = twin.train(self.model.training)

    def bert(batch: int, length: int = 128):
        def build(attention: str) -> nn.Module:
            from transformers import BertConfig, BertModel

            return BertModel(BertConfig(attn_implementation=attention), add_pooling_layer=False)

        return lambda: (Transformer(build), (torch.randint(0, 30522, (batch, length)),), False)

    def whisper_encoder(attention: str) -> nn.Module:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80, attn_implementation=attention)
        return WhisperEncoder(config)

    class Lstm(nn.Module):
        """Two layers of 512 over 100 steps."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(256, 512, num_layers=2, batch_first=False)

        def forward(self, x: Any) -> Any:
            return self.lstm(x)[0]

    class Dlrm(nn.Module):
        """26 tables of 100,000 x 64, a bottom and a top network, pairwise products."""

        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList([nn.Embedding(100_000, 64) for _ in range(26)])
            self.bottom = nn.Sequential(nn.Linear(13, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
            self.top = nn.Sequential(nn.Linear(64 + 27 * 26 // 2, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 1), nn.Sigmoid())
            rows, columns = torch.tril_indices(27, 27, offset=-1)
            self.register_buffer("pairs", rows * 27 + columns)

        def forward(self, dense: Any, sparse: Any) -> Any:
            x = self.bottom(dense)
            vectors = torch.stack([x] + [table(sparse[:, i]) for i, table in enumerate(self.tables)], dim=1)
            products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
            return self.top(torch.cat([x, products[:, self.pairs]], dim=1))

    class UNet(nn.Module):
        """Four levels from 64 channels."""

        def __init__(self) -> None:
            super().__init__()

            def double(a: int, b: int) -> nn.Sequential:
                return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())

            self.down = nn.ModuleList([double(3, 64), double(64, 128), double(128, 256), double(256, 512)])
            self.up = nn.ModuleList([nn.ConvTranspose2d(512, 256, 2, 2), nn.ConvTranspose2d(256, 128, 2, 2), nn.ConvTranspose2d(128, 64, 2, 2)])
            self.join = nn.ModuleList([double(512, 256), double(256, 128), double(128, 64)])
            self.last = nn.Conv2d(64, 2, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for index, block in enumerate(self.down):
                x = block(x)
                if index < 3:
                    kept.append(x)
                    x = nn.functional.max_pool2d(x, 2)
            for up, join in zip(self.up, self.join, strict=True):
                x = join(torch.cat([up(x), kept.pop()], dim=1))
            return self.last(x)

    def plain(kind: type, inputs: Callable[[], tuple[Any, ...]], channels_last: bool = False):
        return lambda: (kind(), inputs(), channels_last)

    return {
        "resnet50_b1": vision("resnet50", 1),
        "resnet50_b64": vision("resnet50", 64),
        "mobilenet_v3_b1": vision("mobilenet_v3_large", 1),
        "mobilenet_v3_b64": vision("mobilenet_v3_large", 64),
        "efficientnet_b0_b1": vision("efficientnet_b0", 1),
        "efficientnet_b0_b64": vision("efficientnet_b0", 64),
        "vit_b16_b1": vision("vit_b_16", 1),
        "vit_b16_b32": vision("vit_b_16", 32),
        "swin_t_b1": vision("swin_t", 1),
        "swin_t_b32": vision("swin_t", 32),
        "bert_base_b1": bert(1),
        "bert_base_b32": bert(32),
        "whisper_tiny_encoder_b1": lambda: (Transformer(whisper_encoder), (torch.randn(1, 80, 3000),), False),
        "lstm_b8": plain(Lstm, lambda: (torch.randn(100, 8, 256),)),
        "dlrm_b2048": plain(Dlrm, lambda: (torch.randn(2048, 13), torch.randint(0, 100_000, (2048, 26)))),
        "unet_b4": lambda: (normalised(UNet(), torch.randn(2, 3, 256, 256)), (torch.randn(4, 3, 256, 256),), True),
    }


def make_fastest(module: Any) -> None:
    """Undoes what a module needs to be exported: as a peer it shall have PyTorch's fused operators."""
    import torch

    if hasattr(module, "use_fastest_attention"):
        module.use_fastest_attention()
    torch.backends.mha.set_fastpath_enabled(True)


def graphed(module: Any, inputs: tuple[Any, ...]) -> Callable[[], None]:
    """Replays a CUDA graph of the module on these inputs."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(5):
            module(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        module(*inputs)
    return graph.replay


def time_ms(run: Callable[[], None], repeats: int) -> list[float]:
    """Milliseconds of device time of each of `repeats` runs, by events."""
    import torch

    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return times


def flops_of(module: Any, inputs: tuple[Any, ...]) -> int:
    """Multiply-adds counted twice, by torch's own counter; 0 if it has none for the model."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*inputs)
        return int(counter.get_total_flops())
    except Exception:  # noqa: BLE001 - a figure beside the result
        return 0


def peaks() -> dict[str, float]:
    """What the GPU reaches: bytes per second of a large copy, FLOP/s of a large f16 product."""
    import torch

    source = torch.empty(1 << 29, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    copy = statistics.median(time_ms(lambda: target.copy_(source), 20))
    a = torch.randn(8192, 8192, dtype=torch.float16, device="cuda")
    product = statistics.median(time_ms(lambda: torch.mm(a, a), 20))
    return {"bytes_per_s": 2 * source.numel() / copy * 1e3, "f16_flops_per_s": 2 * 8192**3 / product * 1e3}


def program(path: str, model: pathlib.Path, folder: pathlib.Path, precision: str, repeats: int, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """One run of gpu_program. Raises with its message if it fails."""
    result = subprocess.run([path, str(model), "--precision", precision, "--inputs", str(folder), "--outputs", str(folder / f"out_{precision}"), "--repeats", str(repeats), *extra],
                            capture_output=True, text=True, check=False)  # fmt: skip
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip()[-400:] or f"exit {result.returncode}")
    return json.loads(result.stdout)


def relative_error(actual: Any, expected: Any) -> float:
    """||actual - expected|| / ||expected|| in f64; infinite for NaN."""
    import numpy as np

    difference = np.linalg.norm((actual.astype(np.float64) - expected.astype(np.float64)).ravel())
    norm = np.linalg.norm(expected.astype(np.float64).ravel())
    return float(difference / norm) if math.isfinite(difference) and norm > 0 else float("inf")


def keep(name: str, model: pathlib.Path, schedule: pathlib.Path, steps: list[tuple[str, float]], target: pathlib.Path) -> None:
    """Writes NAME.schedule.txt, each step with its microseconds before it, and NAME.onnx without the weights' data."""
    import onnx

    target.mkdir(parents=True, exist_ok=True)
    lines = schedule.read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("run:")) + 1
    for index, (_, us) in enumerate(steps):
        lines[first + index] = f"{us:9.2f} us {lines[first + index]}"
    (target / f"{name}.schedule.txt").write_text("\n".join(lines) + "\n")
    graph = onnx.load(str(model))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(graph, f"{folder}/{name}.onnx", save_as_external_data=True, location=f"{name}.weights", size_threshold=1024)
        pathlib.Path(f"{folder}/{name}.onnx").replace(target / f"{name}.onnx")


def measure(name: str, make: Callable[[], tuple[Any, tuple[Any, ...], bool]], options: argparse.Namespace, top: dict[str, float]) -> dict[str, Any]:
    """One model: exported, compared, timed in turn with PyTorch."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator can't be exported
    module, inputs, channels_last = make()
    module.eval()
    row: dict[str, Any] = {"model": name}
    precisions = options.precisions.split(",")
    with tempfile.TemporaryDirectory() as folder_name:
        folder = pathlib.Path(folder_name)
        model = folder / "model.onnx"
        with torch.no_grad():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, inputs, str(model), dynamo=False, opset_version=17)
            expected = module(*inputs).numpy()
        (folder / "shapes.txt").write_text("".join(" ".join(str(size) for size in one.shape) + "\n" for one in inputs))
        for index, one in enumerate(inputs):
            one.numpy().tofile(folder / f"in{index}.bin")
        row["flops"] = flops_of(module, inputs)

        def compared(actual: Any, limit: float) -> dict[str, Any]:
            error = relative_error(actual, expected)
            result: dict[str, Any] = {"relative_error": error, "agrees": error <= limit}
            if expected.ndim == 2 and expected.shape[1] > 1:
                result["same_top1"] = bool((actual.argmax(1) == expected.argmax(1)).all())
            return result

        own: dict[str, dict[str, Any]] = {}
        for precision in precisions:
            kept = ("--places", "--profile", "--dump", str(folder / "schedule.txt")) if precision == precisions[-1] and not options.alone else ()
            answer = program(options.program, model, folder, precision, options.repeats, kept)
            actual = np.fromfile(folder / f"out_{precision}" / "out0.bin", dtype=np.float32).reshape(expected.shape)
            row[precision] = {key: value for key, value in answer.items() if key != "steps"} | compared(actual, LIMITS[precision])
            if "on_device_overhead_us" in answer:  # inputs and outputs in the GPU's memory: nothing is copied between it and the host
                row[precision]["host_overhead_us"] = answer["on_device_overhead_us"]
            own[precision] = answer
        if options.alone:
            return row
        timed = precisions[-1]
        row["slowest_steps"] = sorted(own[timed]["steps"], key=lambda step: -step[1])[:40]
        if options.keep:
            keep(name, model, folder / "schedule.txt", own[timed]["steps"], pathlib.Path(options.keep))

        make_fastest(module)
        peer = module.half().cuda()
        if channels_last:
            peer = peer.to(memory_format=torch.channels_last)
        device_inputs = tuple(one.cuda().half() if one.is_floating_point() else one.cuda() for one in inputs)
        if channels_last:
            device_inputs = tuple(one.contiguous(memory_format=torch.channels_last) for one in device_inputs)
        with torch.no_grad():
            result = peer(*device_inputs)
        row["torch_f16"] = compared(result.float().cpu().numpy(), LIMITS["f16"])
        runs: dict[str, Callable[[], None]] = {}
        try:
            runs["torch_graph"] = graphed(peer, device_inputs)
        except Exception as error:  # noqa: BLE001 - a peer that can't run is said so
            row["torch_graph_error"] = str(error)[:200]
        if options.compile:
            try:
                begin = time.perf_counter()
                compiled = torch.compile(peer, mode="max-autotune-no-cudagraphs" if options.autotune else "default")
                with torch.no_grad():
                    compiled(*device_inputs)
                row["torch_compile_s"] = time.perf_counter() - begin
                runs["torch_compile_graph"] = graphed(compiled, device_inputs)
            except Exception as error:  # noqa: BLE001
                row["torch_compile_error"] = str(error)[:200]
        times: dict[str, list[float]] = {key: [] for key in runs}
        times["ai_vmm"] = []
        for _ in range(options.rounds):
            for key, run in runs.items():
                times[key].append(statistics.median(time_ms(run, options.repeats)))
            torch.cuda.synchronize()
            times["ai_vmm"].append(program(options.program, model, folder, timed, options.repeats)["device_ms"])
        row["ms"] = {key: {"median": statistics.median(values), "low": min(values), "high": max(values)} for key, values in times.items()}
        row["ratio"] = {key: row["ms"][key]["median"] / row["ms"]["ai_vmm"]["median"] for key in runs}
        # Rows of embedding tables that are read, all other weights once (f16), inputs and outputs.
        tables = sum(part.weight.numel() for part in module.modules() if isinstance(part, torch.nn.Embedding))
        rows = sum(part.embedding_dim * inputs[-1].shape[0] * (1 if "dlrm" in name else inputs[-1].shape[-1]) for part in module.modules() if isinstance(part, torch.nn.Embedding))
        moved = 2 * (sum(one.numel() for one in module.parameters()) - tables + rows) + 4 * (sum(one.numel() for one in inputs) + expected.size)
        floor = max(moved / top["bytes_per_s"], row["flops"] / top["f16_flops_per_s"]) * 1e3
        row["floor_ms"] = floor
    del peer
    torch.cuda.empty_cache()
    return row


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build" / "bin" / "gpu_program"))
    parser.add_argument("--filter", default="", help="only models whose name contains one of these, comma-separated")
    parser.add_argument("--compile", action="store_true", help="also torch.compile with a CUDA graph")
    parser.add_argument("--autotune", action="store_true", help="torch.compile with max-autotune")
    parser.add_argument("--precisions", default="f32,f16", help="compared with the CPU's f32; the last is timed, beside PyTorch in f16")
    parser.add_argument("--alone", action="store_true", help="without PyTorch on the GPU: outputs are compared, nothing else is timed")
    parser.add_argument("--keep", default="", help="write each model's schedule with the time of every step, and its graph, into this folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further model after this long")
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    unknown = [name for name in options.precisions.split(",") if name not in LIMITS]
    if unknown:
        parser.error(f"--precisions: {unknown[0]!r} is none of {', '.join(LIMITS)}")
    import torch

    everything = build_models()
    order = list(everything)
    models = {name: make for name, make in everything.items() if not options.filter or any(part in name for part in options.filter.split(","))}
    if not models:
        parser.error(f"--filter: none of {', '.join(order)} has any of {options.filter!r} in it")
    begin = time.perf_counter()
    top = {} if options.alone else peaks()
    result: dict[str, Any] = {"device": torch.cuda.get_device_name(), "driver": about()["driver"],
                              "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "commit": commit(), "peaks": top, "models": []}  # fmt: skip
    failed = False
    target = pathlib.Path(options.output) if options.output else None
    if target is not None and target.is_file():
        before = json.loads(target.read_text())
        if all(before.get(key) == result[key] for key in ("device", "driver", "torch", "commit")):
            result["models"] = [row for row in before["models"] if row["model"] not in models]
    for name, make in models.items():
        if time.perf_counter() - begin > options.seconds:
            result["models"].append({"model": name, "error": "no time was left"})
            failed = True
            continue
        try:
            row = measure(name, make, options, top)
        except Exception as error:  # noqa: BLE001 - one model must not end the others
            row = {"model": name, "error": f"{type(error).__name__}: {str(error)[:500]}"}
        result["models"].append(row)
        measured = [(key, row[key]) for key in LIMITS if key in row]
        failed = failed or "error" in row or not all(one["agrees"] for _, one in measured)
        if "error" in row:
            print(f"{name:26} ERROR {row['error']}", flush=True)
        else:
            errors = "  ".join(f"error {key} {one['relative_error']:.1e}" + ("" if one["agrees"] else f" ABOVE {LIMITS[key]:.0e}") for key, one in measured)
            if not options.alone:
                peers = "  ".join(f"{key} {row['ms'][key]['median']:.3f} ({ratio:.2f}x)" for key, ratio in row["ratio"].items())
                errors = f"{row['ms']['ai_vmm']['median']:.3f} ms  {peers}  floor {row['floor_ms']:.3f}  {errors}"
            print(f"{name:26} {errors}  compile {measured[-1][1]['compile_ms']:.0f} ms", flush=True)
        result["models"].sort(key=lambda one: order.index(one["model"]))
        if target is not None:
            target.write_text(json.dumps(result, indent=1) + "\n")
    for key in ("torch_graph", "torch_compile_graph"):
        ratios = [row["ratio"][key] for row in result["models"] if key in row.get("ratio", {})]
        if ratios:
            print(f"geometric mean over {len(ratios)} models against {key}: {math.exp(statistics.fmean(map(math.log, ratios))):.2f}x; lowest {min(ratios):.2f}x")
    for key in options.precisions.split(","):
        errors = [row[key]["relative_error"] for row in result["models"] if key in row]
        if errors:
            print(f"{key} against the CPU's f32: {sum(error <= LIMITS[key] for error in errors)} of {len(result['models'])} models agree; highest error {max(errors):.1e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
