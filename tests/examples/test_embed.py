"""The C program of `examples/embed`, built here with the system's compiler.

Without a compiler, or without what Python needs to be embedded, these tests skip; where the
environment variable CI is set they fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import ROOT

import l0gate

EMBED = ROOT / "examples" / "embed"

LSTM = [{"type": "lstm", "name": "rnn", "num_layers": 2}, {"type": "linear", "name": "out"}]
GRU = [
    {"type": "gru", "name": "rnn"},
    {"type": "linear", "name": "out"},
    {"type": "activation", "function": "tanh"},
]
TOKENS = [{"type": "embedding", "name": "embedding"}, *GRU]

# Two threads at once, each with a net of its own, which starts over 20 times.
THREADS = """
#include "l0gate_host.h"

#include <pthread.h>
#include <stdio.h>

typedef struct {
    l0gate_net *net;
    float scale, out[50];
    char error[L0GATE_ERROR_SIZE];
} job;

static void *run(void *given)
{
    job *own = given;
    for (int round = 0; round < 20; round++) {
        l0gate_reset(own->net);
        for (int i = 0; i < 50; i++) {
            float in[2] = {own->scale * (float)i, 1};
            if (l0gate_step(own->net, in, &own->out[i], own->error) != 0)
                return NULL;
        }
    }
    return own;
}

int main(int argc, char **argv)
{
    static job jobs[2] = {{.scale = 0.1f}, {.scale = -0.2f}};
    pthread_t threads[2];
    char error[L0GATE_ERROR_SIZE];
    void *done[2];
    if (argc != 3 || l0gate_open(argv[2], "numpy", L0GATE_SHARED, error) != NULL)
        return 2;
    puts(error);
    if (l0gate_start(argv[1], error) != 0 || l0gate_start(argv[1], error) != 0)
        return 3;
    for (int i = 0; i < 2; i++)
        if ((jobs[i].net = l0gate_open(argv[2], "numpy", L0GATE_SHARED, error)) == NULL)
            return 4;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, run, &jobs[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &done[i]);
    if (done[0] == NULL || done[1] == NULL || l0gate_stop(error) == 0)
        return 5;
    puts(error);
    for (int i = 0; i < 2; i++) {
        l0gate_close(jobs[i].net);
        for (int k = 0; k < 50; k++)
            printf("%.9g\\n", (double)jobs[i].out[k]);
    }
    return l0gate_stop(error) == 0 ? 0 : 6;
}
"""


def missing() -> str:
    """What building needs and is not here, or nothing."""
    config = f"python{sys.version_info.major}.{sys.version_info.minor}-config"
    library = str(sysconfig.get_config_var("LDLIBRARY"))
    folders = [str(sysconfig.get_config_var(name)) for name in ("LIBDIR", "LIBPL")]
    needs = {
        "make": shutil.which("make"),
        "a C compiler (cc)": shutil.which("cc"),
        "Python's headers (Python.h)": Path(sysconfig.get_path("include"), "Python.h").exists(),
        config: Path(sys.base_prefix, "bin", config).exists(),
        library: any(Path(folder, library).exists() for folder in folders),
    }
    return ", ".join(name for name, found in needs.items() if not found)


def build(folder: Path, *targets: str, **variables: Any) -> Path:
    arguments = [f"{name}={value}" for name, value in variables.items()]
    result = subprocess.run(
        ["make", "-C", EMBED, f"PYTHON={sys.executable}", f"BUILD={folder}", *arguments]
        + [str(folder / target) for target in targets],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built programs `embed` and `measure`."""
    if lacking := missing():
        message = f"the C host cannot be built; missing: {lacking}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("embed")
    return build(folder, "embed", "measure", CFLAGS="-Werror")


def run(program: Path, *arguments: Any, signal: str = "", **variables: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if k != "L0GATE_PYTHON"}
    return subprocess.run(
        [program, *map(str, arguments)],
        input=signal,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def complaint(result: Any) -> str:
    """The one line with which the program failed; a signal would give a negative code."""
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert result.stderr.startswith("embed: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


def save(
    path: Path, layers: Any, inputs: int, sizes: dict[str, Any], dtype: str = "float32", **kept: Any
) -> Any:
    """The net in `path`, as Python has it."""
    net = l0gate.get_backend("numpy").net(layers)
    parameters = net.init(np.random.default_rng(3), input_size=inputs, sizes=sizes, dtype=dtype)
    bound = net.bind(parameters, engine="numpy", **kept)
    l0gate.save(path, bound)
    return bound


def outputs(net: Any, signal: np.ndarray) -> np.ndarray:
    state, rows = None, []
    for x in signal:
        y, state = net.step(x, state)
        rows.append(y)
    return np.stack(rows)


def text(signal: np.ndarray) -> str:
    return "".join(" ".join(repr(v.item()) for v in np.atleast_1d(x)) + "\n" for x in signal)


def numbers(output: str) -> np.ndarray:
    return np.array([line.split() for line in output.splitlines()], dtype=np.float64)


@pytest.fixture(scope="module")
def lstm(programs: Path) -> Path:
    path = programs / "lstm.npz"
    save(path, LSTM, 2, {"rnn": (9, 7), "out": 1})
    return path


@pytest.mark.parametrize(
    ("layers", "inputs", "sizes", "options"),
    [
        (LSTM, 2, {"rnn": (9, 7), "out": 1}, {}),
        (GRU, 3, {"rnn": 8, "out": 2}, {"dtype": "float64"}),
        (GRU, 2, {"rnn": 8, "out": 1}, {"input_kept": ([0, 3], 5)}),
        (TOKENS, 300, {"embedding": 4, "rnn": 8, "out": 3}, {}),
    ],
    ids=["lstm", "gru-float64", "gru-pruned-inputs", "tokens"],
)
def test_the_program_streams_as_python_does(
    programs: Path, tmp_path: Path, layers: Any, inputs: int, sizes: Any, options: Any
) -> None:
    net = save(tmp_path / "net.npz", layers, inputs, sizes, **options)
    rng = np.random.default_rng(5)
    if layers is TOKENS:
        signal = rng.integers(0, inputs, 60)
    else:
        width = options["input_kept"][1] if "input_kept" in options else inputs
        signal = rng.standard_normal((60, width)).astype(np.float32)
    result = run(programs / "embed", tmp_path / "net.npz", signal=text(signal))
    assert (result.returncode, result.stderr) == (0, "")
    # 1e-6 is what the issue promises; the outputs lie within 1 or so.
    np.testing.assert_allclose(numbers(result.stdout), outputs(net, signal), rtol=0, atol=1e-6)


def test_the_signal_from_a_file_and_the_compiled_engine(
    programs: Path, lstm: Path, tmp_path: Path
) -> None:
    pytest.importorskip("numba")
    signal = np.random.default_rng(6).standard_normal((20, 2)).astype(np.float32)
    (tmp_path / "signal.txt").write_text(text(signal).replace(" ", ", "))
    result = run(programs / "embed", "--engine", "numba", lstm, tmp_path / "signal.txt")
    assert (result.returncode, result.stderr) == (0, "")
    expected = outputs(l0gate.load(lstm), signal)
    np.testing.assert_allclose(numbers(result.stdout), expected, rtol=0, atol=1e-6)


def test_no_signal_no_output(programs: Path, lstm: Path) -> None:
    result = run(programs / "embed", lstm)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_threads_that_open_reset_and_close(programs: Path, lstm: Path, tmp_path: Path) -> None:
    (tmp_path / "threads.c").write_text(THREADS)
    build(tmp_path, "threads", CFLAGS="-Werror -pthread", VPATH=tmp_path)
    result = run(tmp_path / "threads", sys.executable, lstm)
    assert (result.returncode, result.stderr) == (0, "")
    before, still_open, *rest = result.stdout.splitlines()
    assert (before, still_open) == ("Python is not running", "nets are still open: 2")
    net = l0gate.load(lstm)
    signals = [np.stack([s * np.arange(50), np.ones(50)], axis=1) for s in (0.1, -0.2)]
    expected = np.concatenate([outputs(net, x.astype(np.float32)) for x in signals])
    np.testing.assert_allclose(numbers("\n".join(rest)), expected, rtol=0, atol=1e-6)


def test_steps_leave_nothing_in_memory(programs: Path, lstm: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from /proc")
    result = run(programs / "measure", sys.executable, "net", "numpy", lstm, 50_000)
    assert result.returncode == 0, result.stderr
    values = dict(line.split() for line in result.stdout.splitlines())
    # A reference lost per step, of 100 bytes or more, would be 4,500 kB.
    assert int(values["growth_kb"]) < 1000


@pytest.mark.parametrize("option", ["--second-interpreter", "--again"])
def test_what_numpy_refuses_is_an_error_and_no_crash(
    programs: Path, lstm: Path, option: str
) -> None:
    """Whether NumPy loads there depends on its version, and on Python's."""
    signal = np.ones((3, 2), np.float32)
    result = run(programs / "embed", option, lstm, signal=text(signal))
    if result.returncode == 0:
        expected = outputs(l0gate.load(lstm), signal)
        np.testing.assert_allclose(numbers(result.stdout), expected, rtol=0, atol=1e-6)
    else:
        assert "Error: " in complaint(result)
        assert result.stdout == ""


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def foreign(path: Path) -> None:
    path.write_text("no net")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, "cannot be read: No such file"),
        (truncated, "is no l0gate file, or is truncated"),
        (altered, "damaged"),
        (foreign, "is no l0gate file, or is truncated"),
    ],
)
def test_a_bad_file(
    programs: Path, lstm: Path, tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    path = Path(shutil.copy(lstm, tmp_path))
    harm(path)
    said = complaint(run(programs / "embed", path))
    assert message in said
    assert str(path) in said


def test_a_net_that_cannot_stream(programs: Path, tmp_path: Path) -> None:
    both = [{"type": "lstm", "name": "rnn", "bidirectional": True}]
    save(tmp_path / "both.npz", both, 2, {"rnn": (3, 3)})
    said = complaint(run(programs / "embed", tmp_path / "both.npz"))
    assert "needs layers of one direction" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1", "line 2 has 1 numbers; the net reads 2 per step"),
        ("1 2 3", "line 2 has 3 numbers; the net reads 2 per step"),
        ("", "line 2 has 0 numbers"),
        ("1 two", "line 2: 'two' is no number"),
    ],
)
def test_a_bad_line(programs: Path, lstm: Path, line: str, message: str) -> None:
    result = run(programs / "embed", lstm, signal=f"1 2\n{line}\n1 2\n")
    assert message in complaint(result)
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("12", "line 1: L0GateError: `x` contains the token 12; allowed: 0..11"),
        ("-1", "line 1: -1 is no token"),
        ("1.5", "line 1: 1.5 is no token"),
        ("nan", "line 1: nan is no token"),
        ("1e30", "line 1: 1e+30 is no token"),
    ],
)
def test_a_bad_token(programs: Path, tmp_path: Path, token: str, message: str) -> None:
    save(tmp_path / "net.npz", TOKENS, 12, {"embedding": 4, "rnn": 8, "out": 3})
    said = complaint(run(programs / "embed", tmp_path / "net.npz", signal=f"{token}\n"))
    assert message in said


def test_a_python_without_l0gate_and_no_python(programs: Path, lstm: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    said = complaint(run(programs / "embed", lstm, L0GATE_PYTHON=str(bare / "bin" / "python")))
    assert "ModuleNotFoundError: No module named 'l0gate' in the Python of" in said
    said = complaint(run(programs / "embed", "--python", tmp_path / "none", lstm))
    assert f"there is no Python at {tmp_path / 'none'}" in said


def test_other_bad_arguments(programs: Path, lstm: Path, tmp_path: Path) -> None:
    assert "`engine` is 'gpu'" in complaint(run(programs / "embed", "--engine", "gpu", lstm))
    missing_signal = run(programs / "embed", lstm, tmp_path / "none")
    assert "none cannot be opened" in complaint(missing_signal)
    for arguments in ([], ["--wrong", lstm], [lstm, lstm, lstm], [lstm, "--engine"]):
        result = run(programs / "embed", *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("usage: embed")
