"""The fronts and jobs of the machine in tests/support/model_machine.py."""

from dataclasses import dataclass, field

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.settings import Settings

__all__ = ["KnownJob", "ModelFront"]


@dataclass
class KnownJob:
    """What the model knows of a job."""

    front: "ModelFront"
    poison: tuple[str, ...]
    """The devices whose engines it crashes."""
    crashes: list[str] = field(default_factory=list)
    kills: int = 0
    hangs: int = 0


@dataclass(eq=False)
class ModelFront:
    """A front: its settings, and the devices whose engines cannot start with them."""

    settings: Settings
    broken: tuple[str, ...]
    supervisor: Supervisor
    database: Database
    stopped: bool = False

    @property
    def works(self) -> bool:
        """Whether the engine of one of its devices can start."""
        return bool(self.able)

    @property
    def able(self) -> set[str]:
        """The devices whose engines can start."""
        return {device for device in self.supervisor.devices if device not in self.broken}
