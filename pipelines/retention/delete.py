"""Delete outputs of a workspace so that a killed deletion leaves nothing that looks complete.

A mark beside the steps is written first, then the manifest is deleted, then the folder, then the mark. A step that is
run again while its mark exists begins with an empty folder (:func:`pipelines.runs.step.run_step`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hfd.io.storage import Folder
from pipelines.retention.contents import CHECKPOINTS, MANIFEST, Contents, StepFolder
from pipelines.runs.step import MARKS

AT_ONCE = 16
"""Folders that are deleted at the same time; between two such groups the lease is checked."""

Progress = Callable[[int, int], None]


def delete_outputs(
    workspace: Folder, folders: Sequence[StepFolder], guard: Callable[[], None], on_progress: Progress
) -> None:
    """Delete folders, in groups, in order. ``guard`` raises if another run has taken over the workspace."""

    def delete(folder: StepFolder) -> None:
        workspace.write(f"{MARKS}/{folder.name}", b"")
        if folder.finished is not None:
            workspace.delete(f"{folder.name}/{MANIFEST}")
        workspace.delete(folder.name)
        workspace.delete(f"{MARKS}/{folder.name}")

    _in_groups(folders, delete, guard, on_progress)


def delete_checkpoints(
    workspace: Folder, folders: Sequence[StepFolder], guard: Callable[[], None], on_progress: Progress
) -> None:
    """Delete the checkpoints of finished trainings, which nothing reads."""
    _in_groups(folders, lambda folder: workspace.delete(f"{folder.name}/{CHECKPOINTS.rstrip('/')}"), guard, on_progress)


def drop_stale_marks(workspace: Folder, contents: Contents) -> None:
    """Remove marks of outputs that are whole or gone: a deletion was killed right after or right before its work."""
    for name in sorted(contents.marked):
        folder = contents.folders.get(name)
        if folder is None or folder.finished is not None:
            workspace.delete(f"{MARKS}/{name}")


def _in_groups(
    folders: Sequence[StepFolder],
    delete: Callable[[StepFolder], None],
    guard: Callable[[], None],
    on_progress: Progress,
) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, len(folders), AT_ONCE):
            on_progress(first, len(folders))
            guard()
            for _ in pool.map(delete, folders[first : first + AT_ONCE]):
                pass
    on_progress(len(folders), len(folders))
