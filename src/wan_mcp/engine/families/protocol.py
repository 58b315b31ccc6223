"""What a family's code is given, and what the engine asks of it. Knows no family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wan_mcp.catalog.latent_rgb import LatentRGB
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.install import Installed, fingerprint
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import JobFailed
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import ComputePrecision, RequestedPrecision
from wan_mcp.schema.plans import Plan, Shape
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from wan_mcp.engine.families.acceleration import Acceleration
    from wan_mcp.engine.parallel.rank_group import RankGroup

__all__ = ["FamilyRunner", "LoadContext", "Loader", "Looker", "SharedRunner", "unsupported"]


@dataclass(frozen=True)
class LoadContext:
    """All that a family's loader may need to know: which model, where its weights are, and where it is to run."""

    manifest: Manifest
    weights: Installed
    device: Device
    requested: RequestedPrecision = "auto"
    """The precision that the settings, or a plan's preset, ask for."""
    settings: Settings = field(default_factory=Settings)
    make_room: Callable[[], bool] = lambda: False
    """Unload the engine's other model; returns whether there was one. For loaders that would have to stream."""
    check: Callable[[], None] = lambda: None
    """Called between the parts of a model; raises if the load should stop."""
    latent_rgb: LatentRGB | None = None
    """The map from latents to RGB that the manifest names; without one, there are no live previews."""
    acceleration: "Acceleration | None" = None
    """What the models of an engine share of kernels and compiled blocks; None runs blocks eagerly."""

    @property
    def precision(self) -> ComputePrecision:
        """Return the precision in which the denoisers compute."""
        return self.device.machine().precision_of(self.manifest, self.requested)

    @cached_property
    def weights_sha256(self) -> str:
        """Return the SHA-256 of the model's weights; if it is not known, all of them are read."""
        return self.weights.sha256 or fingerprint(self.weights.folder)

    @property
    def media(self) -> MediaStore:
        """Return the store of results and input images."""
        return MediaStore(self.settings.home)


@runtime_checkable
class FamilyRunner(Protocol):
    """A loaded model, and what runs plans on it. One thread uses it at a time."""

    def run(self, job_id: str, plan: Plan, report: Reporter) -> str | None:
        """Run a plan of one of the manifest's tasks, hand each result to `report.add`; return the caption, if any.

        `report` says where the job is, and raises where it should stop: from `enter`, `step` and `tell`, which also
        show progress, and from `check` and `alive`, which do not.

        Raises:
            JobFailed: the job failed; with a code and a readable reason.
            OutOfSpace: the disk is full.
            JobCancelled, LeaseLost, EngineShutdown: propagated from `report`.
        """

    def needed_bytes(self, shape: Shape) -> int:
        """Return the bytes of the device that a result of this size needs beyond those that the loaded model holds.

        The engine's other model makes room for them.
        """

    def forget(self) -> None:
        """Free everything on the device that can be made again: embeddings, streamed blocks, tables."""

    def close(self) -> None:
        """End what still needs the model's memory, before the model is dropped."""


@runtime_checkable
class SharedRunner(FamilyRunner, Protocol):
    """A loaded model whose jobs several ranks can share: one calls `run_shared`, the others `help`."""

    def unshareable(self, plan: Plan, ranks: int) -> str | None:
        """Return why this many ranks cannot share a plan; None if they can."""

    def run_shared(self, job_id: str, plan: Plan, report: Reporter, group: "RankGroup") -> str | None:
        """Run a plan as the first rank of `group`; see `run`.

        Raises:
            RankLost: another rank stopped, or does not answer.
        """

    def help(self, plan: Plan, group: "RankGroup", check: Callable[[], None]) -> None:
        """Do this rank's part of a plan; `check` raises if it should stop. No files are written.

        Raises:
            JobFailed: this rank cannot do its part.
            RankLost: another rank stopped, or does not answer.
        """


@runtime_checkable
class Looker(Protocol):
    """A loaded captioner that can also compare results with prompts."""

    def describe(self, pictures: "Sequence[Image]", instruction: str | None, report: Reporter) -> str:
        """Return what it says about a picture, or about the frames of a video; the same for the same, always.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """

    def agreement(self, pictures: "Sequence[Image]", question: str, report: Reporter) -> float:
        """Return how likely its answer to a question is yes rather than no, 0 to 1.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """


Loader = Callable[[LoadContext], FamilyRunner]
"""What `FamilySpec.loader` names.

Raises:
    JobFailed: the weights cannot be loaded, or do not do what the manifest says.
"""


def unsupported(plan: Plan) -> JobFailed:
    """Return the failure of a plan whose task the loaded model does not do."""
    return JobFailed("not_supported", f"'{plan.model}' does not do {plan.task}.")
