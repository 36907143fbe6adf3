"""The protocol of a set metric: everything beside the pictures that makes two of its values comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hfd.metrics.backbones import BACKBONES
from hfd.metrics.set_distances import SetDistance

LAYOUT = "grid, and grid shifted by half a patch"
DEFAULT_PATCH_PX = 256


@dataclass(frozen=True)
class SetProtocol:
    """A protocol.

    ``backbone``: the network; ``weights``: SHA-256 of its file, where it is another than the known one, else empty;
    ``patch_px``, ``layout``, ``resize``: of the patches; ``estimate``: its correction for their number;
    ``num_patches``: of all pictures together; ``num_blocks``: of pictures, over which it is computed; 0: at once.
    """

    backbone: str
    weights: str
    patch_px: int
    layout: str
    resize: str
    estimate: str
    num_patches: int
    num_blocks: int = 0

    @property
    def text(self) -> str:
        """All but the number of patches, which follows from the pictures: values of equal texts share a column."""
        resized = f" {self.resize}" if self.resize else ""
        weights = f", weights {self.weights[:8]}" if self.weights else ""
        blocks = f", mean over {self.num_blocks} blocks" if self.num_blocks else ""
        return f"{self.backbone}, patches of {self.patch_px} px{resized}{weights}{blocks}"

    @property
    def details(self) -> str:
        """All of it, for a line below a table."""
        blocks = f"; over {self.num_blocks} blocks of images, as are the intervals" if self.num_blocks else ""
        return f"{self.text}; {self.num_patches} patches ({self.layout}); {self.estimate}{blocks}"

    @property
    def deviation(self) -> str:
        """Differences from the metric's own protocol, in a form for names of metrics; empty: none."""
        parts = [f"{self.patch_px}px"] if self.patch_px != DEFAULT_PATCH_PX else []
        parts += [f"weights {self.weights[:8]}"] if self.weights else []
        parts += [f"{self.num_blocks} blocks"] if self.num_blocks else []
        return " ".join(parts)

    def to_record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SetProtocol:
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


def protocol_of(
    distance: SetDistance, *, patch_px: int, sha256: str | None = None, num_patches: int = 0, num_blocks: int = 0
) -> SetProtocol:
    """Return the protocol of a distance.

    ``patch_px``: the configured side, for distances without one of their own; ``sha256``: of the weights' file.
    """
    backbone = BACKBONES[distance.backbone]
    return SetProtocol(
        backbone=backbone.label,
        weights="" if sha256 in (None, backbone.sha256) else str(sha256),
        patch_px=distance.patch_px or patch_px,
        layout=LAYOUT,
        resize=backbone.resize,
        estimate=distance.kind.estimate,
        num_patches=num_patches,
        num_blocks=num_blocks,
    )
