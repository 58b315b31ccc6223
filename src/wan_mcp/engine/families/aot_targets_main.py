"""Which packages a model's blocks run in here: `python -m wan_mcp.engine.families.aot_targets_main MODEL`, as JSON."""

import json
import sys
from dataclasses import asdict

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.engine.aot.child_process import exit_with_parent
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.registry import aot_targets
from wan_mcp.errors import JobFailed, UserError, WeightsUnavailable
from wan_mcp.settings import Settings


def main(model: str) -> str:
    """Return the wanted packages as JSON, or one sentence about why there are none."""
    settings = Settings()
    try:
        manifest = Catalog.of(settings.home).get(model)
        found = aot_targets(manifest, settings, resolve_device(settings.device), settings.precision)
    except (UserError, JobFailed, WeightsUnavailable) as error:
        return json.dumps({"error": str(error)})
    return json.dumps({"wanted": [asdict(each) for each in found]})


if __name__ == "__main__":
    exit_with_parent()
    sys.stdout.write(main(sys.argv[1]) + "\n")
