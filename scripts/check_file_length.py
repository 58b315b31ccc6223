"""Refuse Python files that are too long to be read at one sitting."""

import subprocess
import sys
import tomllib
from pathlib import Path


def main() -> int:
    """Name every file beyond its limit; 1 if there is one."""
    rule = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["file-length"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    too_long = 0
    for name in listed.stdout.splitlines():
        file, limit = Path(name), rule["exceptions"].get(name, rule["limit"])
        lines = len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0
        if lines > limit:
            print(f"{name}: {lines} lines, the limit is {limit}; let it own less")
            too_long += 1
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
