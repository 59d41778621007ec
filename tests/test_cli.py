"""The command line on tiny jobs: results, files, bad input, and what else it prints."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import l0gate
from l0gate.cli._app import join_sizes, parse_sizes, run
from l0gate.cli._text import chunks, python_topics, read_file, streams
from l0gate.npz import unpack

TINY = shlex.split("--hidden 7 5 --embedding 6 --steps 30 --batch 3 --length 8 --budget 40%")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on the default text, by its folder."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l0gate.cli._measure._ROUNDS", 3)
        assert run(["train", *TINY, "--out", str(folder)]) == 0
    return folder


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


# What a job leaves ---------------------------------------------------------------------------


def test_report_has_every_figure(finished):
    report = report_of(finished)
    for name in ("dense", "gated", "small", "direct"):
        row = report[name]
        assert row["bits_per_character"] > 0
        assert row["bytes"] == 4 * row["parameters"]
    assert report["gated"]["hidden_sizes"] == report["dense"]["hidden_sizes"] == [7, 5]
    assert report["direct"]["hidden_sizes"] == report["small"]["hidden_sizes"]
    assert report["small"]["parameters"] == report["direct"]["parameters"]
    assert report["dense"]["recurrent_parameters"] == 4 * (7 * (6 + 7 + 2) + 5 * (7 + 5 + 2)) - 96
    assert report["speedup"]["latency_step"] > 0
    assert report["speedup"]["sequence"] > 0
    assert report["certificate"]["max_abs_difference"] <= report["certificate"]["tolerance"]


def test_gap_recovered_follows_from_the_figures(finished):
    report = report_of(finished)
    dense, small, direct = (report[n]["bits_per_character"] for n in ("dense", "small", "direct"))
    gap = report["comparison"]["gap_recovered"]
    assert gap is None if direct <= dense else gap == (direct - small) / (direct - dense)


def test_small_net_is_within_budget_and_no_neuron_more_fits(finished):
    report = report_of(finished)
    budget, small = report["budget"], report["small"]
    assert budget["limit"] == int(0.4 * report["dense"]["recurrent_parameters"])
    assert small["recurrent_parameters"] == budget["used"] <= budget["limit"]
    assert budget["with_one_more_neuron"] > budget["limit"]


def test_gated_and_small_net_score_the_same(finished):
    report = report_of(finished)
    small, gated = (report[name]["bits_per_character"] for name in ("small", "gated"))
    assert small == pytest.approx(gated, rel=1e-5)


def test_model_scores_what_the_report_says(finished):
    """The saved net, streamed character by character, on the held-out text itself."""
    net = l0gate.load(finished / "model.npz")
    held_out = python_topics().splits["test"]
    total = count = 0
    state = None
    for x, targets in chunks(streams(held_out, 3), 8):
        for x_t, target in zip(x, targets, strict=True):
            logits, state = net.step(x_t, state)
            likelihood = logits.astype(float) - np.logaddexp.reduce(logits, axis=1)[:, None]
            total -= likelihood[np.arange(3), target].sum()
            count += 3
    expected = report_of(finished)["small"]["bits_per_character"]
    assert total / count / np.log(2) == pytest.approx(expected, rel=1e-4)


def test_model_streams_with_numpy_alone(finished):
    code = (
        "import sys\n"
        "for name in ('numba', 'scipy', 'torch', 'typer', 'rich', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import l0gate\n"
        f"net = l0gate.load({str(finished / 'model.npz')!r})\n"
        "y, state = net.step(3)\n"
        "print(y.shape, net([[3], [4]])[0].shape)\n"
    )
    size = report_of(finished)["text"]["vocabulary"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"({size},) (2, 1, {size})"


def test_picture_is_written(finished):
    assert (finished / "report.png").read_bytes().startswith(b"\x89PNG")


def test_report_prints_the_table_again(finished, capsys):
    assert run(["report", str(finished)]) == 0
    shown = capsys.readouterr().out
    report = report_of(finished)
    for name in ("dense", "gated", "small", "direct"):
        assert name in shown
        assert f"{report[name]['bits_per_character']:.3f}" in shown
    assert f"{report['small']['recurrent_parameters']:,} of at most" in shown


def test_sample_streams_text(finished, capsys):
    sample = ["sample", str(finished), "--length", "20", "--prompt", "The "]
    assert run([*sample, "--seed", "1"]) == 0
    first = capsys.readouterr().out
    assert run([*sample, "--seed", "1"]) == 0
    assert capsys.readouterr().out == first
    assert len(first) == len("The ") + 20 + 1
    assert first.startswith("The ")
    assert run([*sample, "--seed", "2"]) == 0
    assert capsys.readouterr().out != first


def test_the_job_says_what_it_does_from_the_start(text, tmp_path, capsys):
    assert (
        run(["train", "--text", str(text), *TINY, "--no-twins", "--out", str(tmp_path / "r")]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"l0gate {l0gate.__version__}")
    assert lines[1].startswith(f"{text}: 1,800 characters (1,620 train, 180 test), 29 different")
    assert any(line.startswith("gated: 30/30") for line in lines)


# Options -------------------------------------------------------------------------------------


def test_without_twins(text, tmp_path):
    out = tmp_path / "run"
    assert run(["train", "--text", str(text), *TINY, "--no-twins", "--out", str(out)]) == 0
    report = report_of(out)
    assert "bits_per_character" not in report["dense"]
    assert report["direct"]["hidden_sizes"] == report["small"]["hidden_sizes"]
    assert report["comparison"]["gap_recovered"] is None
    assert set(report["seconds"]) == {"set_up", "gated", "this_run"}


def test_words_from_a_folder(tmp_path, capsys):
    for split, words in (("train", "a b c d\n"), ("valid", "a b\n"), ("test", "d c strange\n")):
        (tmp_path / f"my.{split}.txt").write_text(words * 40)
    out = tmp_path / "run"
    command = ["train", "--data", str(tmp_path), "--words", "--cell", "gru", *TINY]
    assert run([*command, "--out", str(out)]) == 0
    report = report_of(out)
    assert report["text"]["train"] == 200
    assert report["text"]["vocabulary"] == 6  # four words, end of sentence, and unknown
    assert report["text"]["unseen"] == 40
    assert report["small"]["perplexity"] > 1
    assert report["small"]["valid_perplexity"] > 1
    assert run(["sample", str(out), "--length", "30", "--prompt", "a b"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()


def test_strength_in_place_of_a_budget(text, tmp_path):
    out = tmp_path / "run"
    options = [o for o in TINY if o not in ("--budget", "40%")]
    command = ["train", "--text", str(text), *options, "--strength", "1e-9", "--no-twins"]
    assert run([*command, "--out", str(out)]) == 0
    report = report_of(out)
    assert report["budget"] is None
    assert report["small"]["hidden_sizes"] == [7, 5]


def test_epochs(text, tmp_path):
    out = tmp_path / "run"
    options = [o for o in TINY if o not in ("--steps", "30")]
    command = ["train", "--text", str(text), *options, "--epochs", "2", "--no-twins"]
    assert run([*command, "--out", str(out)]) == 0
    # 1,620 characters in 3 streams of 540: 67 whole chunks of 8, and the last one's targets.
    assert report_of(out)["options"]["steps"] == 2 * 67


def test_numpy_and_torch_train_alike(text, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny products gain nothing from more
    bits = []
    for backend in ("numpy", "torch"):
        out = tmp_path / backend
        command = ["train", "--text", str(text), *TINY, "--backend", backend, "--out", str(out)]
        assert run(command) == 0
        report = report_of(out)
        bits.append([report[n]["bits_per_character"] for n in ("dense", "small", "direct")])
        sizes = report["small"]["hidden_sizes"]
    torch.set_num_threads(threads)
    np.testing.assert_allclose(bits[0], bits[1], rtol=1e-3)
    assert sizes == report_of(tmp_path / "numpy")["small"]["hidden_sizes"]


def test_folders_are_numbered(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in ("1", "2"):
        assert run(["train", "--text", str(text), *TINY, "--no-twins"]) == 0
        assert (tmp_path / "runs" / number / "report.json").exists()


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (["--hidden", "256", "256"], (256, 256)),
        (["--hidden", "256", "--hidden", "128"], (256, 128)),
        (["--hidden", "256,128", "64"], (256, 128, 64)),
        (["--hidden=256"], (256,)),
    ],
)
def test_hidden_sizes(given, sizes):
    joined = join_sizes([*given, "--seed", "1"])
    values = [a.removeprefix("--hidden=") for a in joined if a[0].isdigit() or "=" in a]
    assert parse_sizes(values[: len(values) - 1]) == sizes


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"l0gate {l0gate.__version__}"


def test_backends_list(capsys):
    assert run(["backends", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["backends"]
    by_name = {row["name"]: row for row in listed}
    assert by_name["numpy"]["installed"]
    assert "nets" in by_name["numpy"]["capabilities"]
    assert by_name["torch"]["distribution"] == "l0gate"
    assert run(["backends", "list"]) == 0
    assert "numpy" in capsys.readouterr().out


def test_backends_list_survives_a_broken_backend(capsys):
    from l0gate import hookimpl
    from l0gate._registry import registry

    class Plugin:
        @hookimpl
        def l0gate_backends(self):
            def explode():
                raise RuntimeError("no such device")

            return [{"name": "broken", "module": "numpy", "factory": explode}]

    registry.names()
    registry.register(Plugin(), "a-plugin")
    try:
        assert run(["backends", "list", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["backends"]}
        assert "no such device" in rows["broken"]["problem"]
        assert rows["broken"]["distribution"] == "a-plugin"
        assert rows["numpy"]["problem"] is None
    finally:
        registry.unregister("a-plugin")


def test_backends_list_tells_what_a_descriptor_gets_wrong(capsys):
    from l0gate import hookimpl
    from l0gate._registry import registry
    from l0gate.backends._numpy import NumpyBackend

    class Plugin:
        @hookimpl
        def l0gate_backends(self):
            return [{"name": "nunpy", "module": "numpy", "factory": NumpyBackend}]

    registry.register(Plugin(), "a-plugin")
    try:
        assert run(["backends", "list"]) == 0
        printed = capsys.readouterr()
        assert "l0gate plugin a-plugin: backend 'nunpy' calls itself 'numpy'" in printed.out
        assert not printed.err
    finally:
        registry.unregister("a-plugin")
        registry.problems.clear()


def test_importing_the_library_does_not_import_the_command_line():
    code = "import sys, l0gate; print({'l0gate.cli', 'typer', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_missing_extra_is_named(monkeypatch, capsys):
    from l0gate.__main__ import main

    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "typer: pip install 'l0gate[cli]'" in capsys.readouterr().err


# Text ----------------------------------------------------------------------------------------


def test_default_text_is_held_out_by_its_last_tenth():
    corpus = python_topics()
    train, test = corpus.splits["train"], corpus.splits["test"]
    assert len(test) == (len(train) + len(test)) // 10
    assert corpus.digest() == python_topics().digest()
    assert corpus.digest() != python_topics(words=True).digest()


def test_characters_unseen_in_training_are_unknown(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab" * 45 + "ab@!ababab")
    corpus = read_file(path)
    assert corpus.unseen == 2
    assert corpus.vocabulary == ("a", "b", "\ufffd")
    assert corpus.splits["test"].tolist() == [0, 1, 2, 2, 0, 1, 0, 1, 0, 1]


def test_streams_keep_the_order_of_the_text():
    data = streams(np.arange(20), 3)
    x, y = (np.concatenate(parts) for parts in zip(*chunks(data, 4), strict=True))
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(x[:, 1], np.arange(6, 11))


# Bad input -----------------------------------------------------------------------------------

BAD = {
    "budget of 0": (["--budget", "0"], ["`--budget` is '0'", "20%"]),
    "budget of 0%": (["--budget", "0%"], ["`--budget` is '0%'", "above 0"]),
    "negative budget": (["--budget=-5%"], ["`--budget` is '-5%'", "above 0"]),
    "budget above 1": (["--budget", "150%"], ["`--budget` is '150%'", "at most 100%"]),
    "fraction above 1": (["--budget", "1.5"], ["`--budget` is '1.5'", "at most 100%"]),
    "budget in words": (["--budget", "half"], ["`--budget` is 'half'"]),
    "budget nan": (["--budget", "nan"], ["`--budget` is 'nan'"]),
    "budget below with one neuron left per axis": (
        ["--budget", "3"],
        ["`--budget`", "with one neuron left per axis"],
    ),
    "budget and strength": (["--budget", "20%", "--strength", "1"], ["`--budget` or `--strength`"]),
    "negative strength": (["--strength=-1"], ["`--strength` is -1.0", "at least 0"]),
    "no hidden neurons": (["--hidden", "0"], ["`--hidden` is '0'", "at least 1"]),
    "hidden in words": (["--hidden", "many"], ["`--hidden` is 'many'"]),
    "no steps": (["--steps", "0"], ["`--steps` is 0", "at least 1"]),
    "steps and epochs": (["--steps", "3", "--epochs", "1"], ["`--steps` or `--epochs`"]),
    "no epochs": (["--epochs", "0"], ["`--epochs` is 0"]),
    "rate of 0": (["--lr", "0"], ["`--lr` is 0.0", "above 0"]),
    "negative seed": (["--seed=-1"], ["`--seed` is -1", "at least 0"]),
    "unknown backend": (["--backend", "nunpy"], ["`--backend`", "'nunpy'", "'numpy', 'torch'"]),
    "text and data": (["--text", "a", "--data", "b"], ["`--text` or `--data`"]),
    "missing text": (["--text", "nowhere.txt"], ["`--text`", "'nowhere.txt'", "No such file"]),
    "missing folder": (["--data", "nowhere"], ["`--data` is 'nowhere'", "folder"]),
    "nothing to resume": (["--out", "fresh", "--resume"], ["`--resume`", "'fresh'", "checkpoint"]),
    "no run to resume": (["--resume"], ["`--resume`", "--out"]),
}


@pytest.mark.parametrize(("options", "parts"), BAD.values(), ids=BAD)
def test_bad_options(options, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", *options]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"abc\0def" * 100, "is a binary file (it holds NUL bytes)"),
        (b"abc\xff" * 100, "byte 3 is 0xff"),
        (b"too short", "it needs at least 27 for one batch (`--batch` 3, `--length` 8)"),
    ],
)
def test_bad_texts(content, part, tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert run(["train", "--text", str(path), *TINY, "--out", str(tmp_path / "run")]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["a.train.txt"], ["'test'", "found: none"]),
        (["train.txt", "my.train.txt", "test.txt"], ["'train'", "found: my.train.txt, train.txt"]),
    ],
)
def test_bad_folders(files, parts, tmp_path, capsys):
    for name in files:
        (tmp_path / name).write_text("some words\n")
    assert run(["train", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error


def test_folder_that_cannot_be_written(text, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert run(["train", "--text", str(text), *TINY, "--out", str(file / "run")]) == 2
    assert f"`--out` '{file / 'run'}' cannot be written" in capsys.readouterr().err


def test_a_run_is_not_overwritten(finished, capsys):
    assert run(["train", *TINY, "--out", str(finished)]) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (["--hidden", "7", "6"], "hidden was [7, 5] and is now [7, 6]"),
        (["--seed", "3"], "seed was 0 and is now 3"),
        (["--cell", "gru"], "cell was 'lstm' and is now 'gru'"),
        (["--words"], "text was "),
    ],
)
def test_checkpoint_of_another_job(finished, change, part, capsys):
    options = TINY[TINY.index("--embedding") :] if change[0] == "--hidden" else TINY
    assert run(["train", *options, *change, "--out", str(finished), "--resume"]) == 2
    assert part in capsys.readouterr().err


def test_damaged_checkpoint(text, tmp_path, capsys):
    (tmp_path / "checkpoint.npz").write_bytes(b"PK not a checkpoint")
    assert run(["train", "--text", str(text), *TINY, "--out", str(tmp_path), "--resume"]) == 2
    assert "is no l0gate file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "sample"])
def test_a_folder_without_a_run(command, tmp_path, capsys):
    assert run([command, str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--length", "0"], "`--length` is 0"),
        (["--temperature=-1"], "`--temperature` is -1.0"),
        (["--prompt", "snow ☃"], "`--prompt` holds '☃'"),
    ],
)
def test_bad_samples(finished, options, part, capsys):
    assert run(["sample", str(finished), *options]) == 2
    assert part in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_with_a_good_checkpoint(text, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "--text", str(text), *TINY, "--lr", "1e38", "--checkpoint-every", "0"]
    assert run([*command, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "the loss is nan" in error
    assert "smaller `--lr`" in error
    arrays, _ = unpack(io.BytesIO((out / "checkpoint.npz").read_bytes()))
    assert arrays["gated/losses"].size > 0
    assert all(np.isfinite(array).all() for array in arrays.values())
