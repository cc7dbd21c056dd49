"""The bill of materials names what the lock pins, and an audit that checked nothing does not pass."""

import json
import pathlib

import pytest

from deploy import audit, make_sbom

CHECKOUT = pathlib.Path(__file__).parents[2]
LOCK = """# a comment
first==1.2.3 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
Second_Part==4.0.post1 ; python_full_version < '3.13' \\
    --hash=sha256:{a}
""".format(a="a" * 64, b="b" * 64)


def test_each_locked_package_is_a_component_with_its_hashes() -> None:
    """By package URL; the same lock gives the same document."""
    made = make_sbom.make_sbom(LOCK)

    first, second = made["components"]
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.5", 1)
    assert (first["purl"], second["purl"]) == ("pkg:pypi/first@1.2.3", "pkg:pypi/second-part@4.0.post1")
    assert [row["content"][0] for row in first["externalReferences"][0]["hashes"]] == ["a", "b"]
    assert second["properties"] == [{"name": "python:marker", "value": "python_full_version < '3.13'"}]
    assert made == make_sbom.make_sbom(LOCK)
    assert made["serialNumber"] != make_sbom.make_sbom(LOCK.replace("1.2.3", "1.2.4"))["serialNumber"]


@pytest.mark.parametrize("lock", ["requirements.lock", "devstack/demo.lock", "deploy/docker/requirements.lock"])
def test_every_package_of_the_locks_is_in_the_bill_of_materials(lock: str) -> None:
    """Once, each with at least one hash."""
    text = (CHECKOUT / lock).read_text("utf-8")
    pinned = [line.partition("==")[0] for line in text.splitlines() if line[:1].isalpha()]

    components = make_sbom.make_sbom(text)["components"]

    assert [component["name"] for component in components] == pinned
    assert len({component["bom-ref"] for component in components}) == len(pinned)
    assert all(component["externalReferences"][0]["hashes"] for component in components)


@pytest.mark.parametrize("line", ["first>=1", "first==1 @ git+https://example.org", "    --hash=sha256:abc"])
def test_a_lock_that_pins_nothing_is_refused(line: str) -> None:
    """A component that is not named would be missing silently."""
    with pytest.raises(make_sbom.InvalidLock):
        make_sbom.make_sbom(line)


CLEAN = {"name": "first", "version": "1", "vulns": []}
BAD = {"name": "second", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "third", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "code", "text"),
    [
        ([CLEAN], 0, "1 packages are checked; none has a known vulnerability."),
        ([CLEAN, BAD], 1, "second 2: PYSEC-1, fixed in 3"),
        ([CLEAN, SKIPPED], 2, "1 of 2 packages could not be looked up, so they were not checked: third"),
        ([BAD, SKIPPED], 2, "second 2: PYSEC-1, fixed in 3"),
        (
            [SKIPPED],
            2,
            "The vulnerability database cannot be reached, or knows no package, so nothing was checked.",
        ),
    ],
    ids=["clean", "vulnerable", "one not looked up", "both", "none looked up"],
)
def test_an_audit_passes_only_when_every_package_was_checked(
    packages: list[dict[str, object]], code: int, text: str
) -> None:
    """pip-audit itself passes when it finds none of the packages."""
    ended, lines = audit.judge(json.dumps({"dependencies": packages, "fixes": []}), "")

    assert (ended, lines[0]) == (code, text)


def test_an_audit_says_so_when_the_database_cannot_be_reached() -> None:
    """With the end of the tool's own message."""
    code, lines = audit.judge("", "Traceback\n...\nConnectionError: Failed to resolve 'api.osv.dev'\n")

    assert code == 2
    assert lines[0] == "The vulnerability database cannot be reached, so nothing was checked:"
    assert lines[-1] == "ConnectionError: Failed to resolve 'api.osv.dev'"
