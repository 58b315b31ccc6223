"""Canonical names of devices: one for each, whichever form the settings of a front use.

Locks, engines and measurements use that name. Only torch can resolve `auto`, so each engine that is started with it
records the result here: all GPUs, or else the CPU. Until the first has done so, `auto` is a separate name.
"""

import re

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.rows import is_device_name
from wan_mcp.settings import DEVICE

__all__ = ["AUTO", "DeviceNames", "named"]

AUTO = "auto"


def named(setting: str) -> tuple[str, ...]:
    """Return the names of the devices that a setting other than `auto` means: `cuda:0`, `cuda:2` for `cuda:0,2`.

    A text that is no setting, as a damaged plan may have it, names none.
    """
    if setting == AUTO or not DEVICE.fullmatch(setting):
        return ()
    if setting == "cpu":
        return ("cpu",)
    return tuple(f"cuda:{int(number)}" for number in re.findall(r"\d+", setting) or ["0"])


class DeviceNames:
    """The device names known in one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, setting: str) -> tuple[str, ...]:
        """Return the devices' names for a setting; for auto those that were recorded last, else only `auto`."""
        if setting != AUTO:
            return named(setting)
        # An older version on the same home records the first alone: then the others are out of date.
        [row] = self._database.read("SELECT (SELECT device FROM auto_device) AS first")
        rows = self._database.read("SELECT device FROM auto_devices ORDER BY place")
        found = [row["device"] for row in rows if is_device_name(row["device"])]
        if found[:1] != [row["first"]]:
            found = [row["first"]] if is_device_name(row["first"]) else [AUTO]
        return tuple(found)

    def record_auto(self, *devices: str) -> None:
        """Record which devices auto currently means on this machine; an engine started with it runs on the first."""
        if devices == self.of(AUTO):
            return
        with self._database.write(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO auto_device VALUES (1, ?)", devices[:1])
            connection.execute("DELETE FROM auto_devices")
            connection.executemany("INSERT INTO auto_devices VALUES (?, ?)", enumerate(devices))
