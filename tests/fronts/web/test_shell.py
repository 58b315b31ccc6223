"""The version of the page's files, which all their addresses carry."""

import hashlib
from threading import Thread
from typing import Any

import pytest

from wan_mcp.fronts.web.shell import Shell


def test_two_who_open_the_page_at_once_get_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    shell, versions, sha256 = Shell(), [], hashlib.sha256

    def as_another_asks(*data: Any) -> Any:
        monkeypatch.setattr(hashlib, "sha256", sha256)
        other = Thread(target=lambda: versions.append(shell.version()))
        other.start()
        other.join()
        return sha256(*data)

    monkeypatch.setattr(hashlib, "sha256", as_another_asks)
    versions.append(shell.version())
    assert len(versions[0]) == 16
    assert versions[0] == versions[1]
