"""What the official library reads of a file's content credentials."""

from pathlib import Path
from typing import Any

import c2pa

__all__ = ["credentials_of"]


def credentials_of(file: Path, media_type: str) -> dict[str, Any] | None:
    """The actions, the ingredients and the signer of a signed file, whose signature fits; None if it is not signed."""
    with file.open("rb") as content:
        reader = c2pa.Reader.try_create(media_type, content)
        if reader is None:
            return None
        with reader:
            manifest = reader.get_active_manifest()
            state = reader.get_validation_state()
    assert manifest is not None
    assert state == "Valid"  # "Trusted" needs a list of authorities
    [actions] = [each["data"]["actions"] for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")]
    return {
        "actions": [action["action"] for action in actions],
        "models": [agent["name"] for action in actions if (agent := action.get("softwareAgent"))],
        "types": [action["digitalSourceType"] for action in actions if "digitalSourceType" in action],
        "parents": [each["relationship"] for each in manifest.get("ingredients", ())],
        "signer": manifest["signature_info"]["common_name"],
        "text": str(manifest),
    }
