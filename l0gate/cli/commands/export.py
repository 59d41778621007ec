"""`l0gate export` and `l0gate import`: nets as files of other programs, and back."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

import l0gate
from l0gate._errors import L0GateError, check
from l0gate.formats.export import export as export_net
from l0gate.formats.export import read_file

Source = Annotated[str, typer.Argument(metavar="FILE", help="The file to read.")]
Target = Annotated[str, typer.Argument(metavar="OUT", help="The file to write.")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", "-f", help="The format, if the ending of the file does not tell."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="NAME=VALUE", help="An option of the format; may be repeated."
    ),
]


def export(
    net: Annotated[str, typer.Argument(metavar="NET", help="A net that l0gate saved (.npz).")],
    out: Target,
    format: FormatName = None,
    pad_to: Annotated[
        str | None,
        typer.Option(help="Add closed neurons: 'target', a size, or sizes as in 8,12."),
    ] = None,
    option: Options = None,
) -> None:
    """Write a small net as a file of another program, and prove it by running the file."""
    proof = export_net(
        l0gate.load(net), out, format, pad_to=_sizes(pad_to), **_options(option or [])
    )
    print(f"{out}: {proof.format}, {proof.bytes:,} bytes")
    print(f"proved: {proof}")


def import_file(
    file: Source,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The .npz to write.")],
    format: FormatName = None,
    int8: Annotated[bool, typer.Option("--int8", help="Store the weights in eight bits.")] = False,
    option: Options = None,
) -> None:
    """Read a file of another program as a net of l0gate, which loads, runs and streams."""
    saved = read_file(file, format, **_options(option or []))
    net: Any = saved
    if int8:
        net = l0gate.quantize(saved)
        print(net.saved.deviation)
    l0gate.save(out, net)
    count = sum(int(array.size) for array in saved.parameters.values())
    layers = ", ".join(str(layer["type"]) for layer in saved.chain.layers) if saved.chain else ""
    print(f"{out}: {layers}; {count:,} parameters, {os.path.getsize(out):,} bytes")


def _sizes(text: str | None) -> Any:
    if text is None or text == "target":
        return text
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise L0GateError(
            f"`--pad-to` is {text!r}; it must be 'target', a size, or sizes as in 8,12"
        ) from None
    return sizes[0] if len(sizes) == 1 else sizes


def _options(given: list[str]) -> dict[str, Any]:
    """Options from NAME=VALUE; a value is JSON, or else text."""
    found: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        check(mark and name, f"`--option` is {text!r}; it must be NAME=VALUE")
        try:
            found[name.replace("-", "_")] = json.loads(value)
        except (ValueError, RecursionError):
            found[name.replace("-", "_")] = value
    return found
