"""`l0gate` and `python -m l0gate`: the command line, if the extra `cli` is installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code: 0, or 2 for bad input."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        print(
            f"l0gate: the command line needs {error.name}: pip install 'l0gate[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    from l0gate.cli._app import run

    raise SystemExit(run())


if __name__ == "__main__":
    main()
