# SPDX-License-Identifier: Apache-2.0
"""The `vmm` command from outside: what it prints, its exit statuses, and its array files against NumPy's."""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
VMM = pathlib.Path(os.environ.get("AI_VMM_CLI", ROOT / "build/bin/vmm"))

pytestmark = pytest.mark.skipif(not VMM.exists(), reason=f"{VMM} is not built (AI_VMM_CLI chooses another)")


def run(*arguments, cwd=None, stdin=None, env=None, timeout=300):
    """The finished process; standard output and error as bytes."""
    command = [str(VMM), *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, env=environment, timeout=timeout, check=False)


def run_json(*arguments, status=0, **options):
    done = run(*arguments, "--json", **options)
    assert done.returncode == status, done.stderr.decode() + done.stdout.decode()
    assert done.stderr == b"" or status == 0
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def save_model(path, nodes, inputs, outputs, initializers=()):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def add_model(folder):
    """y = a + b, each f32[?, 3]."""
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    row = ["n", 3]
    return save_model(folder / "add.onnx", [onnx.helper.make_node("Add", ["a", "b"], ["y"])],
                      [info("a", 1, row), info("b", 1, row)], [info("y", 1, row)])


def identity_model(path, onnx_type, shape):
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    return save_model(path, [onnx.helper.make_node("Identity", ["x"], ["y"])], [info("x", onnx_type, shape)], [info("y", onnx_type, shape)])


@pytest.fixture(scope="module")
def dense_model(folder):
    """Scores of 10 classes of 1x3x8x8 images."""
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    generator = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(generator.normal(size=(192, 10)).astype(np.float32), "w")
    nodes = [onnx.helper.make_node("Flatten", ["image"], ["flat"]), onnx.helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    return save_model(folder / "dense.onnx", nodes, [info("image", 1, [1, 3, 8, 8])], [info("scores", 1, [1, 10])], [weights])


# ---- help, usage, output ---------------------------------------------------------------------------------------------

COMMANDS = ["devices", "inspect", "plan", "run", "bench", "cache", "doctor", "completion", "version"]


def test_help_teaches():
    done = run("--help")
    assert done.returncode == 0 and done.stderr == b""
    for command in COMMANDS:
        assert command in done.stdout.decode()
        text = run(command, "--help").stdout.decode()
        assert "Examples:" in text and f"vmm {command}" in text
    assert run().stdout == done.stdout


@pytest.mark.parametrize(("arguments", "hint"), [
    (["devises"], "devices"),
    (["plan", "m.onnx", "--maxlatency-ms", "3"], "--max-latency-ms"),
    (["cache", "lss"], "ls"),
    (["run", "m.onnx", "--jsn"], "--json"),
    (["bench", "m.onnx", "--scenario", "ofline"], "offline"),
])
def test_slips_get_a_suggestion(arguments, hint):
    done = run(*arguments)
    assert done.returncode == 2
    assert f"did you mean '{hint}'" in done.stderr.decode()
    assert done.stdout == b""


@pytest.mark.parametrize("arguments", [["plan", "m.onnx", "--frob"], ["frobnicate"], ["run", "m.onnx", "--xyzzy", "3"]])
def test_what_is_like_nothing_gets_no_suggestion(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "did you mean" not in done.stderr.decode()
    assert "--help" in done.stderr.decode()


@pytest.mark.parametrize("arguments", [
    ["plan"], ["plan", "m", "--tune", "5q"], ["plan", "m", "--threads", "0"], ["plan", "m", "--goal", "speed"], ["plan", "m", "--shape", "x"],
    ["plan", "m", "--forbid", "f12"], ["cache", "ls", "--limit-mb", "1"], ["devices", "extra"], ["run", "m", "--resize", "half"], ["run", "m", "--mean", "a"],
    ["run", "m", "--quantize", "0"], ["bench", "m", "--against", "tvm"], ["bench", "m", "--scenario", "server", "--against", "openvino"],
])
def test_wrong_usage_is_status_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"vmm: error: ")
    error = run_json(*arguments, status=2)["error"]
    assert error["code"] == "invalid_argument" and error["message"] and error["exit_status"] == 2
    assert set(error) == {"code", "category", "message", "expected", "found", "advice", "exit_status"}


def test_missing_and_foreign_files(folder):
    assert run_json("inspect", folder / "none.onnx", status=3)["error"]["code"] == "not_found"
    text = folder / "readme.onnx"
    text.write_text("just words\n")
    error = run_json("inspect", text, status=2)["error"]
    assert error["code"] == "invalid_argument" and error["category"] in ("input", "compilation")
    done = run("plan", text)
    assert done.returncode == 2 and b"\x1b" not in done.stderr


def test_version():
    version = run_json("version")
    assert version["schema"] == "vmm.version/1" and re.fullmatch(r"\d+\.\d+\.\d+", version["version"])
    assert run("--version").stdout == run("version").stdout


def test_colours_only_where_wanted():
    assert b"\x1b[" not in run("devices").stdout
    assert b"\x1b[" in run("devices", "--color", "always").stdout
    assert b"\x1b[" not in run("devices", "--color", "never").stdout


def read_terminal(arguments, env=None, columns=60):
    """What the command writes on a terminal of that width."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ.update(env or {})
        os.execv(str(VMM), [str(VMM), *map(str, arguments)])
    import fcntl
    import struct
    import termios
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    data = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], 60)
        try:
            block = os.read(descriptor, 65536) if ready else b""
        except OSError:
            block = b""
        if not block:
            break
        data += block
    os.waitpid(pid, 0)
    os.close(descriptor)
    return data.decode()


def test_terminal_gets_colours_unless_told_otherwise():
    assert "\x1b[" in read_terminal(["devices"], {"TERM": "xterm", "NO_COLOR": ""})
    assert "\x1b[" not in read_terminal(["devices"], {"TERM": "xterm", "NO_COLOR": "1"})


def test_a_closed_pipe_is_quiet():
    shell = shutil.which("bash")
    done = subprocess.run([shell, "-c", f"'{VMM}' devices --json | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, check=False)
    assert done.stderr == b""


def test_a_full_disk_is_said():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(VMM), "devices"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 7 and b"can't write" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(shell, folder):
    script = run("completion", shell).stdout.decode()
    for word in [*COMMANDS, "max-latency-ms", "throughput"]:
        assert word in script
    binary = shutil.which(shell)
    if binary is None:
        pytest.skip(f"{shell} is not installed")
    path = folder / f"vmm.{shell}"
    path.write_text(script)
    assert subprocess.run([binary, "-n", str(path)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("line", "wanted", "unwanted"), [
    ("vmm dev", ["devices"], ["run"]),
    ("vmm plan --go", ["--goal"], ["--against"]),
    ("vmm plan --goal ", ["latency", "throughput", "efficiency"], ["--json"]),
    ("vmm plan --goal=thr", ["throughput"], ["latency"]),
    ("vmm cache ", ["ls", "gc", "clear"], ["devices"]),
    ("vmm bench m.onnx --ag", ["--against"], ["--top"]),
    ("vmm --js", ["--json"], []),
])
def test_bash_completes(line, wanted, unwanted):
    words = line.replace("=", " = ").split(" ")
    program = run("completion", "bash").stdout.decode() + f"""
COMP_WORDS=({' '.join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}; _vmm; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    found = subprocess.run(["bash", "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert set(wanted) <= set(found) and not set(unwanted) & set(found)


# ---- machine and cache -----------------------------------------------------------------------------------------------

def test_devices():
    found = run_json("devices")
    assert found["schema"] == "vmm.devices/1"
    cpu = next(device for device in found["devices"] if device["kind"] == "CPU")
    assert cpu["id"] == "cpu:0" and cpu["compute_units"] >= 1
    assert {route["backend"] for route in cpu["routes"]} <= {backend["name"] for backend in found["backends"]}


def test_doctor(tmp_path):
    report = run_json("doctor", "--cache-dir", tmp_path)
    assert report["ok"] and {check["state"] for check in report["checks"]} <= {"ok", "warn"}
    assert all(check["advice"] for check in report["checks"] if check["state"] != "ok")


def test_cache_fills_and_clears(add_model, tmp_path):
    arguments = ["--cache-dir", tmp_path / "cache"]
    assert run_json("cache", "ls", *arguments)["entries"] == []
    run_json("run", add_model, "--random", *arguments)
    assert run_json("run", add_model, "--random", *arguments)["deployment"]["from_cache"]
    listed = run_json("cache", "ls", *arguments)
    assert listed["entries"] and listed["size_bytes"] == sum(entry["size_bytes"] for entry in listed["entries"])
    assert run("cache", "ls", *arguments).stdout.count(b"\n") == len(listed["entries"]) + 2
    assert run_json("cache", "gc", "--limit-mb", "0", *arguments)["size_bytes"] == 0
    assert run_json("cache", "clear", *arguments)["freed_bytes"] == 0


# ---- models ----------------------------------------------------------------------------------------------------------

def test_inspect(dense_model):
    profile = run_json("inspect", dense_model, "--nodes")
    assert profile["schema"] == "vmm.inspect/1" and profile["format"] == "onnx"
    assert profile["inputs"] == [{"name": "image", "type": "f32", "shape": [1, 3, 8, 8], "optional": False}]
    assert profile["parameters"] == 1920 and profile["flops"] >= 2 * 1920
    assert profile["node_count"] == len(profile["nodes"])
    text = run("inspect", dense_model, "--nodes").stdout.decode()
    assert "image" in text and "MatMul" in text


def test_plan(dense_model, cache):
    plan = run_json("plan", dense_model, "--cache-dir", cache)
    assert plan["schema"] == "vmm.plan/1" and isinstance(plan["plan"], dict)
    assert run("plan", dense_model, "--cache-dir", cache, "--tune", "0").returncode == 0


@pytest.fixture(scope="session")
def cuda_on_the_processor():
    """The cuda backend over the processor: it tells about steps and bytes."""
    library = VMM.parent.parent / "lib" / "test_backends" / "libai_vmm_backend_cuda_host.so"
    if not library.exists():
        pytest.skip(f"{library} is not built")
    return library


def test_plan_dump_tells_steps_and_bytes(dense_model, cache, cuda_on_the_processor):
    arguments = ("plan", dense_model, "--dump", "--cache-dir", cache, "--backend", cuda_on_the_processor)
    outlines = run_json(*arguments)["outlines"]
    assert {outline["engine"] for outline in outlines} >= {"cuda", "openvino"}
    for outline in outlines:
        if outline["engine"] != "cuda":
            assert "doesn't tell" in outline["reason"]
            continue
        memory = outline["memory"]
        assert memory["device_bytes"] == memory["weight_bytes"] + memory["arena_bytes"] + memory["workspace_bytes"] > 0
        assert "weights" in outline["steps"]
    only = run_json(*arguments, "--engine", "cuda", "--precision", "f16")["outlines"]
    assert [(outline["engine"], outline["precision"]) for outline in only] == [("cuda", "f16")]
    text = run(*arguments, "--engine", "cuda").stdout.decode()
    assert "on the device: weights" in text


def test_run_profile_tells_what_steps_take(dense_model, cache, cuda_on_the_processor):
    arguments = ("run", dense_model, "--random", "--profile", "--cache-dir", cache, "--tune", "0", "--precision", "f32")
    profile = run_json(*arguments, "--backend", cuda_on_the_processor, "--engine", "cuda")["profile"]
    assert profile and all(step["name"] and step["us"] >= 0 for step in profile)
    refused = run(*arguments, "--engine", "openvino")
    assert refused.returncode == 5 and b"doesn't tell" in refused.stderr


def test_an_impossible_constraint_is_status_6(dense_model, cache):
    error = run_json("plan", dense_model, "--max-latency-ms", "0.0000001", "--cache-dir", cache, status=6)["error"]
    assert error["code"] == "failed_precondition" and error["category"] == "performance" and error["advice"]


def test_unknown_devices_and_engines(dense_model):
    for option in ("--device", "--engine"):
        assert run_json("plan", dense_model, option, "abacus", status=2)["error"]["code"] == "invalid_argument"


def test_names_numbers_and_archives(add_model, cache, tmp_path):
    options = ["--cache-dir", cache]
    done = run_json("run", add_model, "--input", "a=1,2,3", "--input", "b=10,20,30", *options)
    assert done["schema"] == "vmm.run/1"
    (output,) = done["outputs"]
    assert output["name"] == "y" and output["shape"] == [1, 3] and output["values"] == [11, 22, 33]
    a = np.arange(6, dtype=np.float64).reshape(2, 3)
    b = np.asfortranarray(np.ones((2, 3), dtype=">f4"))
    np.savez_compressed(tmp_path / "in.npz", a=a, b=b)
    done = run("run", add_model, tmp_path / "in.npz", "--output", tmp_path / "out.npz", *options)
    assert done.returncode == 0, done.stderr
    assert b"f64 converted to f32" in done.stderr
    with np.load(tmp_path / "out.npz") as out:
        assert list(out) == ["y"]
        np.testing.assert_array_equal(out["y"], a + b)


def test_standard_input_and_output(dense_model, cache):
    import io
    image = np.random.default_rng(1).random((1, 3, 8, 8), dtype=np.float32)
    given = io.BytesIO()
    np.save(given, image)
    done = run("run", dense_model, "@-", "--output", "-", "--cache-dir", cache, stdin=given.getvalue())
    assert done.returncode == 0, done.stderr
    scores = np.load(io.BytesIO(done.stdout))
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.to_array(onnx.load(dense_model).graph.initializer[0])
    np.testing.assert_allclose(scores, image.reshape(1, -1) @ weights, rtol=2e-2, atol=2e-2)


def test_top_classes_with_labels(dense_model, cache, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {i}\n" for i in range(10)))
    done = run_json("run", dense_model, "--random", "--top", "3", "--labels", labels, "--softmax", "--cache-dir", cache)
    (row,) = done["outputs"][0]["top"]
    assert len(row) == 3 and row[0]["score"] >= row[1]["score"] >= row[2]["score"]
    assert row[0]["label"] == f"class {row[0]['index']}"


def test_generated_inputs_are_ones_that_the_model_takes(cache, tmp_path):
    """`mode` must be one of the two values that the file compares it with: any other fails in the last branch."""
    onnx = pytest.importorskip("onnx")
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    constant = lambda name, value: onnx.numpy_helper.from_array(np.array(value, np.int64), name)

    def branch(name, nodes):
        return onnx.helper.make_graph(nodes, name, [], [info(f"{name}_y", 1, None)])

    fails = branch("fails", [node("Reshape", ["x", "sevenths"], ["r"]), node("ReduceSum", ["r"], ["fails_y"], keepdims=0)])
    halves = branch("halves", [node("ReduceMean", ["x"], ["halves_y"], keepdims=0)])
    second = branch("second", [node("Equal", ["mode", "b"], ["is_b"]), node("If", ["is_b"], ["second_y"], then_branch=halves, else_branch=fails)])
    first = branch("first", [node("ReduceMax", ["x"], ["first_y"], keepdims=0)])
    nodes = [node("Equal", ["mode", "a"], ["is_a"]), node("If", ["is_a"], ["y"], then_branch=first, else_branch=second)]
    model = save_model(tmp_path / "modes.onnx", nodes, [info("x", 1, ["n", "t"]), info("mode", 7, [])], [info("y", 1, None)],
                       [constant("a", 41), constant("b", 43), constant("sevenths", [7, 7, -1])])
    options = ["--cache-dir", cache, "--engine", "onnxruntime"]
    for seed in range(3):
        assert run_json("run", model, "--random", "--seed", str(seed), *options)["outputs"][0]["name"] == "y"
    run_json("run", model, "--random", "--input", "mode=43", *options)
    refused = run("run", model, "--random", "--input", "mode=1", "--json", *options)
    assert refused.returncode == 10, refused.stderr
    assert "x[" in json.loads(refused.stdout)["error"]["found"]
    assert run_json("bench", model, "--requests", "2", "--warmup", "0", *options)["scenarios"][0]["contenders"]


def test_values_that_decide_shapes_are_not_made_up(cache, tmp_path):
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    model = save_model(tmp_path / "reshape.onnx", [onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])],
                       [info("x", 1, [6]), info("shape", 7, [2])], [info("y", 1, [None, None])])
    error = run_json("run", model, "--random", "--cache-dir", cache, status=2)["error"]
    assert "shape" in error["message"] and error["advice"]
    assert run_json("run", model, "--random", "--input", "shape=2,3", "--cache-dir", cache)["outputs"][0]["shape"] == [2, 3]


@pytest.mark.parametrize(("index", "status"), [(3, 0), (-4, 0), (4, 2), (-5, 2)])
def test_rows_that_are_not_there_are_not_made_up(cache, tmp_path, index, status):
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    model = save_model(tmp_path / "gather.onnx", [onnx.helper.make_node("Gather", ["x", "rows"], ["y"], axis=1)], [info("x", 1, [2, 4])],
                       [info("y", 1, [2, 2])], [onnx.helper.make_tensor("rows", 7, [2], [0, index])])  # fmt: skip
    done = run_json("run", model, "--input", "x=0,1,2,3,4,5,6,7", "--values", "0", "--cache-dir", cache, status=status)
    if status == 0:
        assert done["outputs"][0]["values"] == [0, index % 4, 4, 4 + index % 4]
    else:
        assert "Gather" in done["error"]["message"] and done["error"]["expected"] == "indices from -4 to 3"
        assert done["error"]["found"] == str(index) and done["error"]["advice"]


def test_wrong_inputs_are_told(add_model, cache, tmp_path):
    options = ["--cache-dir", cache]
    np.save(tmp_path / "wide.npy", np.zeros((1, 4), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:-3])
    for given, status, code in [(["a=1,2,3"], 2, "invalid_argument"), (["a=1,2"], 2, "invalid_argument"), (["c=1,2,3"], 2, "invalid_argument"),
                                ([f"a={tmp_path}/wide.npy", "b=1,2,3"], 2, "invalid_argument"), ([f"a={tmp_path}/objects.npy", "b=1,2,3"], 5, "unimplemented"),
                                ([f"a={tmp_path}/cut.npy", "b=1,2,3"], 8, "data_loss"), (["a=missing.npy", "b=1,2,3"], 3, "not_found")]:
        arguments = [word for value in given for word in ("--input", value)]
        error = run_json("run", add_model, *arguments, *options, status=status)["error"]
        assert error["code"] == code, given


NUMPY_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}


@pytest.mark.parametrize("onnx_type", sorted(NUMPY_TYPES))
def test_numpy_files_of_every_type_come_back(onnx_type, folder, cache, tmp_path):
    """NumPy writes in both byte orders and memory orders; what vmm writes, NumPy reads as the same values and type."""
    model = identity_model(folder / f"identity_{onnx_type}.onnx", onnx_type, [2, 3])
    values = np.array([[0, 1, 2], [3, 100, 1]]).astype(NUMPY_TYPES[onnx_type])
    for order, byte_order in (("C", "<"), ("F", ">")):
        np.save(tmp_path / "in.npy", np.array(values, dtype=values.dtype.newbyteorder(byte_order), order=order))
        done = run("run", model, tmp_path / "in.npy", "--output", tmp_path / "out.npy", "--cache-dir", cache)
        assert done.returncode == 0, done.stderr
        back = np.load(tmp_path / "out.npy")
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values)


def test_an_interrupt_is_status_130(dense_model, cache):
    with subprocess.Popen([str(VMM), "bench", str(dense_model), "--seconds", "60", "--cache-dir", str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130


# ---- bench -----------------------------------------------------------------------------------------------------------

def test_bench_against_the_engines(dense_model, cache):
    result = run_json("bench", dense_model, "--against", "openvino,onnxruntime", "--requests", "50", "--rounds", "5", "--samples", "--cache-dir", cache)
    assert result["schema"] == "vmm.bench/1" and result["agree"] and result["commit"]
    (scenario,) = result["scenarios"]
    own, *natives = scenario["contenders"]
    assert own["name"] == "ai_vmm" and [native["name"] for native in natives] == ["openvino", "onnxruntime"]
    for contender in scenario["contenders"]:
        assert contender["status"] == "timed" and contender["latency"]["count"] == 50 == len(contender["samples_ms"])
        times = contender["latency"]
        assert 0 < times["min_ms"] <= times["p50_ms"] <= times["p90_ms"] <= times["p99_ms"] <= times["max_ms"]
        assert sorted(contender["samples_ms"])[24] == pytest.approx(times["p50_ms"])
    for native in natives:
        assert native["verification"]["agrees"] and native["verification"]["relative_error"] < 1e-2
    for ratio in scenario["ratios"]:
        assert ratio["low"] <= ratio["high"] and ratio["value"] > 0


def test_bench_scenarios(dense_model, cache):
    for name in ("multi-stream", "offline"):
        result = run_json("bench", dense_model, "--scenario", name, "--against", "onnxruntime", "--requests", "200", "--cache-dir", cache)
        assert all(contender["throughput_per_s"] > 0 for contender in result["scenarios"][0]["contenders"])
    server = run_json("bench", dense_model, "--scenario", "server", "--rate", "200", "--requests", "50", "--cache-dir", cache)["scenarios"][0]
    assert server["server"]["failed"] == 0 and server["contenders"][0]["latency"]["count"] + server["server"]["refused"] == 50


def test_bench_same_config(dense_model, cache):
    scenario = run_json("bench", dense_model, "--same-config", "--requests", "200", "--cache-dir", cache)["scenarios"][0]
    assert scenario["contenders"][1]["status"] == "timed"
    assert scenario["added_latency_us"]["low"] <= scenario["added_latency_us"]["high"]


def test_what_disagrees_is_not_timed(dense_model, cache):
    """With no tolerance at all, an engine of another order of additions differs and is left out."""
    routes = [route for device in run_json("devices")["devices"] for route in device["routes"] if route["backend"] == "openvino"]
    if not any("bf16" in route["precisions"] for route in routes):
        pytest.skip("this processor does not compute in bf16")
    result = run_json("bench", dense_model, "--against", "openvino,onnxruntime", "--tolerance", "0", "--requests", "10", "--engine", "openvino",
                      "--precision", "bf16", "--cache-dir", cache, status=1)
    assert not result["agree"]
    unverified = [contender for contender in result["scenarios"][0]["contenders"] if contender["status"] == "not_verified"]
    assert unverified and all("latency" not in contender and contender["verification"]["reason"] for contender in unverified)
