"""Canonical names of devices: one for each, whichever form the settings of a front use.

Locks, engines and measurements use that name. Only torch can resolve `auto`, so the first engine that
is started with it records the result here; until then `auto` is a separate name.
"""

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.rows import is_device_name

__all__ = ["AUTO", "DeviceNames", "named"]

AUTO = "auto"


def named(setting: str) -> str:
    """Return the name of the device that a setting other than `auto` means: `cuda:0` for `cuda`."""
    kind, _, number = setting.partition(":")
    return kind if kind == "cpu" else f"{kind}:{int(number or 0)}"


class DeviceNames:
    """The device names known in one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, setting: str) -> str:
        """Return the device's name for a setting: cpu, cuda:0 …; for auto the last one recorded, else auto."""
        if setting != AUTO:
            return named(setting)
        rows = self._database.read("SELECT device FROM auto_device")
        return str(rows[0]["device"]) if rows and is_device_name(rows[0]["device"]) else AUTO

    def record_auto(self, device: str) -> None:
        """Record what auto currently resolves to on this machine."""
        with self._database.write(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO auto_device VALUES (1, ?)", (device,))
