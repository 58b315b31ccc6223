"""What devices are called: one name for each, whatever the settings of a front call it.

Locks, engines and measurements go by that name. What `auto` stands for only torch can tell, so the first engine that
is started so finds it out and says it here; until then `auto` is a name of its own.
"""

from wan_mcp.jobs.database import Database

__all__ = ["AUTO", "DeviceNames"]

AUTO = "auto"


class DeviceNames:
    """The names that are known in one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, setting: str) -> str:
        """The name of the device behind a setting: cpu, cuda:0 …; for auto what an engine has told last, else auto."""
        if setting != AUTO:
            kind, _, number = setting.partition(":")
            return kind if kind == "cpu" else f"{kind}:{int(number or 0)}"
        rows = self._database.read("SELECT device FROM auto_device")
        return str(rows[0]["device"]) if rows else AUTO

    def record_auto(self, device: str) -> None:
        """Say what auto stands for, on this machine and now."""
        with self._database.write(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO auto_device VALUES (1, ?)", (device,))
