"""
Copies what the product needs at run time into an empty tree, the whole root file system of the image.

Runs in the build stage, with the Python that is copied. What is not named here stays behind: shell, perl, package
managers, and whatever else the base brings.
"""

import compileall
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

PRODUCT = pathlib.Path("/opt/indexer")
USER = "indexer:x:10001:10001::/nonexistent:/usr/sbin/nologin\n"
GROUP = "indexer:x:10001:\n"
LEFT_OUT = (
    *("__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages"),
    *("test", "tests", "tkinter", "turtledemo", "venv"),
)
"""Parts of the standard library that no service needs. Bytecode is made anew: the image is read-only where it runs."""
FILES = ("/etc/os-release", "/etc/nsswitch.conf", "/usr/lib/os-release")
CERTIFICATES = ("/etc/ssl", "/usr/lib/ssl", "/usr/share/ca-certificates")


def main(root: pathlib.Path) -> None:
    """Fill *root*."""
    for link in ("bin", "lib", "lib64"):
        if pathlib.Path("/", link).is_symlink() and link != "bin":
            (root / "usr" / link).mkdir(parents=True, exist_ok=True)
            (root / link).symlink_to(f"usr/{link}")
    shutil.copytree(PRODUCT, root / PRODUCT.relative_to("/"), symlinks=True)
    stdlib = pathlib.Path(sysconfig.get_path("stdlib"))
    skip = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(stdlib, root / stdlib.relative_to("/"), symlinks=True, ignore=skip)
    compileall.compile_dir(root / stdlib.relative_to("/"), stripdir=str(root), quiet=1)
    for path in executables(PRODUCT / "bin" / "python"):
        copy(path, root)
    for path in libraries([stdlib / "lib-dynload", PRODUCT], executables(PRODUCT / "bin" / "python")[-1]):
        copy(path, root)
    for name in CERTIFICATES:
        if pathlib.Path(name).is_dir():
            shutil.copytree(name, root / name.lstrip("/"), symlinks=True, ignore=shutil.ignore_patterns("private"))
    for name in FILES:
        if pathlib.Path(name).exists():
            copy(pathlib.Path(name), root)
    (root / "etc" / "passwd").write_text(USER)
    (root / "etc" / "group").write_text(GROUP)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "tmp").chmod(0o1777)


def executables(path: pathlib.Path) -> list[pathlib.Path]:
    """Return an executable and what it is a link to, step by step."""
    found = [path]
    while found[-1].is_symlink():
        found.append(found[-1].parent / found[-1].readlink())
    return found


def libraries(folders: list[pathlib.Path], program: pathlib.Path) -> set[pathlib.Path]:
    """Return the libraries of the system that a program and all extension modules load, the loader included."""
    modules = [path for folder in folders for path in folder.rglob("*.so*") if path.is_file()]
    found: set[pathlib.Path] = set()
    for path in [program, *modules]:
        told = subprocess.run(["/usr/bin/ldd", str(path)], check=False, capture_output=True, text=True).stdout
        if "not found" in told:
            raise SystemExit(f"{path} lacks a library:\n{told}")
        found |= {pathlib.Path(name) for name in re.findall(r"(?:=> |^\s+)(/\S+) \(", told, re.MULTILINE)}
    # Loaded by name when a thread ends.
    found |= {path.parent / "libgcc_s.so.1" for path in found if (path.parent / "libgcc_s.so.1").exists()}
    return {path for path in found if not path.is_relative_to(PRODUCT)}


def copy(path: pathlib.Path, root: pathlib.Path) -> None:
    """Copy a file to the same place below *root*; a link stays one inside the product and Python, else its target."""
    place = root / path.parent.resolve().relative_to("/") / path.name
    if place.exists() or place.is_symlink():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and path.parent.name == "bin":
        place.symlink_to(path.readlink())
    else:
        shutil.copy2(path, place)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
