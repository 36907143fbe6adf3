"""``hfd export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="A model folder, a workspace, or a shipped model's name.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store the networks in half precision.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Default sampling steps of the copy. Default: the model's.")
    ] = None,
) -> None:
    """Copy a trained model into its own folder."""
    from hfd.codec.export import export_model
    from hfd.io.model_folders import find_model
    from hfd.io.storage import Folder

    parts = export_model(find_model(model), Folder(str(output)), half=half, steps=steps)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{output}: {' and '.join(parts)}, {size / 1e6:.1f} MB")
