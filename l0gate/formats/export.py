"""`export` and `import_`: nets as files of other programs, and such files as nets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from l0gate._errors import L0GateError, check, warn
from l0gate._registry import registry
from l0gate._saved_model import SavedModel, saved_model_of
from l0gate.files import check_path, write_atomically
from l0gate.formats.assembly import assembled
from l0gate.formats.format import Content, Format
from l0gate.formats.layers import Layer, layers_of, recurrent_layers
from l0gate.formats.padding import padded
from l0gate.formats.proof import Proof, prove

__all__ = ["export", "get_format", "import_", "read_file"]

_LARGEST = 2**32  # bytes of a file that is read whole


def export(
    net: Any,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    pad_to: str | int | Sequence[int] | None = None,
    **options: Any,
) -> Proof:
    """Write a net as a file of another program, and prove it by running the file.

    `net` is what `l0gate.load`, `import_` or `shrink()` returned, or a `SavedModel`. `format` is
    found from the ending of `path` if it is None; `l0gate formats list` shows the formats. The file
    is run, as whole sequences and step by step, by the program that it is for where this is
    installed, otherwise by l0gate's own reader. `options` are those of the format.

    `pad_to` adds closed neurons, which change no output, for programs that take some hidden sizes
    only: "target" (the least that the format takes), a size, or one size per recurrent layer.

    Returns the `Proof`. Raises `L0GateError`, and leaves no file, for a net that the format cannot
    hold, and for a file whose outputs differ by more than 1e-5 (times the largest output, if that
    is above 1).

    >>> import l0gate, numpy as np, os, tempfile
    >>> net = l0gate.get_backend("numpy").net([{"type": "lstm", "name": "rec"},
    ...                                        {"type": "linear", "name": "lin"}])
    >>> small = net.bind(net.init(np.random.default_rng(0), input_size=1,
    ...                           sizes={"rec": 6, "lin": 1}))
    >>> path = os.path.join(tempfile.mkdtemp(), "amp.nam")
    >>> proof = l0gate.export(small, path)
    >>> proof.runner, proof.max_abs_difference < 1e-6
    ("l0gate's own reader of nam", True)
    >>> l0gate.import_(path).parameters["rec.weight_hh_l0"].shape
    (24, 6)
    """
    target = check_path(path)
    chosen = get_format(format, target, writing=True)
    _check_options(chosen, options, chosen.options)
    saved = saved_model_of(net, "net")
    chain = saved.chain
    layers = _padded(layers_of(saved), chosen, pad_to, options)
    content = Content(
        layers,
        saved.metadata,
        chain is not None and chain.batch_first,
        certificate=saved.certificate,
    )
    written = chosen.write(content, **options)
    runner = chosen.runner(written, **options)
    if runner is None:
        proof = Proof(chosen.name, "nothing", 0.0, 0.0, 0, False, len(written))
    else:
        try:
            proof = prove(
                chosen.reference(saved, **options), layers, runner, chosen.name, len(written)
            )
        finally:
            runner.close()
    if chosen.keeps_proof:
        written = chosen.write(replace(content, proof=str(proof)), **options)
    write_atomically(target, written)
    return proof


def import_(path: str | os.PathLike[str], format: str | None = None, **options: Any) -> Any:
    """Read a file of another program as a net that runs in NumPy.

    `format` is found from the ending of `path`, and from what is in the file, if it is None.
    `options` are those of the format's reader, such as `layers` for a file that holds arrays alone.

    Returns what `l0gate.load` returns: `net(x, state)`, `net.step`, `net.stream`. `net.to_torch()`
    makes a torch module of it, which can be trained, gated and shrunk. Nothing in a file is ever
    executed. Raises `L0GateError` for a file that is damaged or holds what l0gate cannot run.
    """
    return read_file(path, format, **options).net()


def read_file(
    path: str | os.PathLike[str], format: str | None = None, **options: Any
) -> SavedModel:
    """What a file of another program holds, as `import_` reads it."""
    source = check_path(path)
    content = _read(source)
    chosen = get_format(format, source, writing=False, content=content)
    _check_options(chosen, options, chosen.read_options)
    try:
        found = chosen.read(content, **options)
        return assembled(found.layers, found.metadata, batch_first=found.batch_first)
    except L0GateError as error:
        raise L0GateError(f"`path` {source!r} (format {chosen.name!r}) {error}") from None
    except MemoryError:
        raise L0GateError(
            f"`path` {source!r} (format {chosen.name!r}) needs too much memory"
        ) from None


def get_format(
    name: str | None, path: str, *, writing: bool, content: bytes | None = None
) -> Format:
    """The format of that name; without one, the format that the ending of a path means."""
    if name is not None:
        check(isinstance(name, str), f"`format` is {name!r}; it must be the name of a format")
        return _usable(_made(name), writing)
    formats = _all_formats()
    fitting = [f for f in formats if f.suffixes and path.lower().endswith(f.suffixes)]
    if content is not None:
        fitting = [f for f in fitting if f.reads and f.recognizes(content)]
    else:
        fitting = [f for f in fitting if f.writes] or fitting
        names = " and ".join(repr(f.name) for f in fitting)
        check(
            len(fitting) <= 1,
            f"`path` {path!r} ends as the files of {names} do; say which with `format`",
        )
    if not fitting:
        endings = ", ".join(f"{s} ({f.name})" for f in formats for s in f.suffixes)
        raise L0GateError(
            f"`path` {path!r} has no ending or content of a known format; give `format`, or one of"
            f" the endings {endings}"
        )
    return _usable(fitting[0], writing)


def _all_formats() -> list[Format]:
    """Every format. One that cannot be made is told in a warning, and does not hide the others."""
    found = []
    for name in registry.format_names():
        try:
            found.append(_made(name))
        except L0GateError as error:
            warn(str(error))
    return found


def _usable(found: Format, writing: bool) -> Format:
    able = found.writes if writing else found.reads
    doing, other = ("writes", "reads") if writing else ("reads", "writes")
    check(able, f"`format` is {found.name!r}, which l0gate {other} but never {doing}")
    return found


def _made(name: str) -> Format:
    entry = registry.format(name)
    found = entry.make()
    check(
        isinstance(found, Format),
        f"{entry} is {found!r}; it must be a l0gate.formats.Format",
    )
    assert isinstance(found, Format)
    return found


def _check_options(chosen: Format, given: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    for key in given:
        known = ", ".join(f"`{name}`" for name in allowed) or "none"
        check(
            key in allowed,
            f"`{key}` is no option of the format {chosen.name!r}; options: {known}",
        )
    for key, value in given.items():
        check(
            not isinstance(allowed[key], bool) or isinstance(value, bool),
            f"`{key}` is {value!r}; it must be True or False",
        )


def _padded(
    layers: list[Layer], chosen: Format, pad_to: Any, options: Mapping[str, Any]
) -> list[Layer]:
    if pad_to is None:
        return layers
    hidden = [layer.outputs for layer in recurrent_layers(layers)]
    check(bool(hidden), f"`pad_to` is {pad_to!r}; the net has no recurrent layer")
    if pad_to == "target":
        sizes = chosen.accepted_sizes(hidden, **options)
    elif isinstance(pad_to, int) and not isinstance(pad_to, bool):
        sizes = [pad_to] * len(hidden)
    else:
        fits = isinstance(pad_to, (list, tuple)) and all(
            isinstance(size, int) and not isinstance(size, bool) for size in pad_to
        )
        check(fits, f"`pad_to` is {pad_to!r}; it must be 'target', a size, or a list of sizes")
        sizes = list(pad_to)
    return padded(layers, sizes)


def _read(path: str) -> bytes:
    try:
        size = os.path.getsize(path)
        check(size <= _LARGEST, f"`path` {path!r} has {size:,} bytes; read are {_LARGEST:,}")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise L0GateError(f"`path` {path!r} cannot be read: {error.strerror}") from None
