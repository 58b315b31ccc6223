"""The other side of a benchmark for tests: says what `wan_mcp.engine.families.plain_main` says, without torch.

`python -m tests.support.fake_plain FACTS` does what the file `plain` in the home folder says.
"""

import json
import os
import sys
import threading
from pathlib import Path

from wan_mcp.engine.aot.child_process import exit_with_parent


def main(file: str) -> None:
    """Be the process."""
    exit_with_parent()
    facts = json.loads(Path(file).read_text(encoding="utf-8"))
    home = Path(os.environ["WAN_MCP_HOME"])
    trick = (home / "plain").read_text(encoding="utf-8") if (home / "plain").exists() else "works"
    say(placement="to(device)", device=facts["device"], precision="fp32", cuda=None)
    for number, _ in enumerate(facts["plans"]):
        if number == 1 and trick == "fails":
            say(error=f"cannot read {home}/weights/a.json, '/srv/some where/else/b.json' or (../other/c.json)")
            return
        if number == 1 and trick == "exits":
            sys.exit(3)
        if number == 1 and trick == "hangs":
            (home / "hanging").open("w").close()  # waits for its reader, if it is a pipe
            threading.Event().wait()
        say(number=number, seconds=2.0 + number, file=str(Path(facts["folder"]) / f"{number}.mp4"))


def say(**line: object) -> None:
    """Print one line for the parent."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
