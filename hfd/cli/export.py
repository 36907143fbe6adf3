"""``hfd export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="A model folder, a workspace, or a shipped model's name.")],
    output: Annotated[Path, typer.Argument(help="The folder to write; with --onnx, also MODEL itself.")],
    half: Annotated[bool, typer.Option("--half", help="Store the networks in half precision.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Default sampling steps of the copy. Default: the model's.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX graphs of the networks beside the weights.")] = False,
    critic: Annotated[
        bool, typer.Option("--critic", help="Keep the decoder's critic, which further trainings start from.")
    ] = False,
) -> None:
    """Copy a trained model into its own folder, or add ONNX graphs to one."""
    from hfd.codec.export import add_graphs, export_model
    from hfd.errors import DataError
    from hfd.io.model_folders import find_model
    from hfd.io.storage import Folder

    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: got a file, expected a folder or a new name. Give another OUTPUT")
    source = find_model(model)
    if (
        onnx
        and not (half or critic)
        and steps is None
        and source.is_local
        and source.path.resolve() == output.resolve()
    ):
        print(f"{output}: {', '.join(add_graphs(source))}")
        return
    parts = export_model(source, Folder(str(output)), half=half, steps=steps, onnx=onnx, critic=critic)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{output}: {' and '.join(parts)}, {size / 1e6:.1f} MB")
