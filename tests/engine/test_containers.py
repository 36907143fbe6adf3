"""Limits of control groups, from made folders of both versions in the kernel's form."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfd.engine.containers import cpu_quota, memory_left
from hfd.engine.machine import available_bytes, cores

GIB = 1 << 30


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def own(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "own"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_the_least_limit_of_the_groups_around_counts(tmp_path: Path) -> None:
    write(tmp_path / "a", memory__max=str(4 * GIB), memory__current=str(3 * GIB), memory__stat="inactive_file 0")
    write(tmp_path / "a/b", memory__max=str(8 * GIB), memory__current=str(GIB), memory__stat="inactive_file 0")
    write(tmp_path / "a/b", cpu__max="150000 100000")
    write(tmp_path / "a", cpu__max="max 100000")
    own_file = own(tmp_path, "0::/a/b")
    assert memory_left(tmp_path, own_file) == GIB
    assert cpu_quota(tmp_path, own_file) == 1.5


def test_cached_files_that_are_idle_count_as_free(tmp_path: Path) -> None:
    write(
        tmp_path, memory__max=str(2 * GIB), memory__current=str(2 * GIB),
        memory__stat=f"anon {GIB // 2}\nfile {GIB}\ninactive_file {GIB}\nactive_file 0",
    )  # fmt: skip
    assert memory_left(tmp_path, own(tmp_path, "0::/")) == GIB


def test_version_1_has_a_folder_for_each_controller(tmp_path: Path) -> None:
    write(
        tmp_path / "memory/x", memory__limit_in_bytes=str(3 * GIB), memory__usage_in_bytes=str(2 * GIB),
        memory__stat=f"inactive_file 1\ntotal_inactive_file {GIB}",
    )  # fmt: skip
    write(tmp_path / "cpu/y", **{"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000"})
    own_file = own(tmp_path, "7:memory:/x", "3:cpu,cpuacct:/y", "0::/")
    assert memory_left(tmp_path, own_file) == 2 * GIB
    assert cpu_quota(tmp_path, own_file) == 0.5


def test_a_container_sees_its_own_group_at_the_root_under_a_path_of_the_machine(tmp_path: Path) -> None:
    write(tmp_path, memory__max=str(GIB), memory__current="0", memory__stat="inactive_file 0")
    assert memory_left(tmp_path, own(tmp_path, "0::/docker/0123")) == GIB


@pytest.mark.parametrize("limit", ["max", ""])
def test_no_limit_is_none(tmp_path: Path, limit: str) -> None:
    write(tmp_path, memory__max=limit, memory__current="5", memory__stat="inactive_file 0", cpu__max="max 100000")
    write(tmp_path / "cpu", **{"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"})
    own_file = own(tmp_path, "4:cpu:/", "0::/")
    assert memory_left(tmp_path, own_file) is None
    assert cpu_quota(tmp_path, own_file) is None
    assert memory_left(tmp_path, tmp_path / "none") is None


def test_this_machine_has_cores_and_memory() -> None:
    assert cores() >= 1
    free = available_bytes()
    assert free is None or free > 0
