"""Totals of a batch: files, bytes, and files that were not written."""

from __future__ import annotations

from dataclasses import dataclass

from hfd.cli.convert import Ended


@dataclass
class Totals:
    """Counts of a batch of ``files``; bytes in and out are those of the files that were written."""

    files: int
    written: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    failed: int = 0
    skipped: int = 0
    not_smaller: int = 0

    def add(self, ended: Ended) -> None:
        """Count a job that ended without an error."""
        match ended.result:
            case "written":
                self.written += 1
            case "skipped":
                self.skipped += 1
            case "not smaller":
                self.not_smaller += 1
        self.bytes_in += ended.bytes_in
        self.bytes_out += ended.bytes_out

    @property
    def line(self) -> str:
        """``2 of 5 files written, 12,345 bytes in, 6,789 bytes out, ratio 0.550, 1 failed, 2 skipped``."""
        parts = [f"{self.written} of {self.files} files written"]
        if self.bytes_in:
            ratio = self.bytes_out / self.bytes_in
            parts.append(f"{self.bytes_in:,} bytes in, {self.bytes_out:,} bytes out, ratio {ratio:.3f}")
        left = {"failed": self.failed, "skipped": self.skipped, "not smaller": self.not_smaller}
        return ", ".join(parts + [f"{number} {name}" for name, number in left.items() if number])
