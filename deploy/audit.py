"""
Checks a lock file for packages with known vulnerabilities, by pip-audit and the database of PyPI or OSV.

pip-audit exits with 0 when it could not look a package up. Here that counts as not checked.

Exit codes: 0 all packages are checked and none is vulnerable, 1 some are, 2 some or all could not be checked.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

LAST_LINES = 3
"""Lines of pip-audit's own message that are shown when it fails."""


def judge(report: str, error: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines to print for pip-audit's JSON report and its standard error."""
    try:
        found: dict[str, Any] = json.loads(report)
        packages = found["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = error.strip().splitlines()[-LAST_LINES:]
        return 2, ["The vulnerability database cannot be reached, so nothing was checked:", *last]
    vulnerable = [_line_of(package, each) for package in packages for each in package.get("vulns", ())]
    unchecked = [package["name"] for package in packages if "skip_reason" in package]
    if unchecked and len(unchecked) == len(packages):
        return 2, ["The vulnerability database cannot be reached, or knows no package, so nothing was checked."]
    if unchecked:
        some = f"{len(unchecked)} of {len(packages)} packages could not be looked up, so they were not checked: "
        return 2, [*vulnerable, some + ", ".join(unchecked)]
    if vulnerable:
        return 1, vulnerable
    return 0, [f"{len(packages)} packages are checked; none has a known vulnerability."]


def _line_of(package: dict[str, Any], found: dict[str, Any]) -> str:
    fixed = ", ".join(found["fix_versions"]) or "no version"
    return f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}"


def main(lock: str, options: Sequence[str]) -> int:
    """Run pip-audit beside this interpreter on a lock file; returns the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    ran = subprocess.run(  # noqa: S603 -- a fixed program
        [*command, "--format", "json", "-r", lock, *options], check=False, capture_output=True, text=True
    )
    code, lines = judge(ran.stdout, ran.stderr)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
