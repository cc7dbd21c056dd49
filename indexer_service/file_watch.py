"""Small files that are read again when they change; what cannot be accepted is logged and changes nothing."""

import asyncio
import pathlib
from collections.abc import Callable, Mapping, Sequence

from indexing.telemetry import logs

LONGEST = 1 << 20
"""Bytes of the longest file that is read: thousands of callers, or any chain of certificates."""


class Unacceptable(Exception):
    """What stands in a file cannot be used; the message says what and where, and repeats nothing of it."""


class Files:
    """
    Files that belong together, by the setting that names each.

    They are compared by content: Kubernetes swaps a link under the directory, which no file's own time shows.

    Args:
        paths: Path by setting.

        accept: Takes the contents, in that order, or raises Unacceptable; it must change nothing then.
    """

    def __init__(self, paths: Mapping[str, pathlib.Path], accept: Callable[[Sequence[bytes]], None]) -> None:
        self._paths = paths
        self._accept = accept
        self._seen: list[bytes] | str = ""
        self._log = logs.get(__name__)

    def open(self) -> None:
        """Read them for the first time. Raises Unacceptable."""
        self._seen = self._read()
        self._take(self._seen)

    async def look(self) -> None:
        """Read them again; what is accepted holds from now on, what is refused is told once."""
        contents = await asyncio.to_thread(self._read)
        if contents == self._seen:
            return
        self._seen = contents
        try:
            self._take(contents)
        except Unacceptable as problem:
            self._log.error("file_refused", settings=[*self._paths], problem=str(problem), still="what was read before")
        else:
            self._log.info("file_reloaded", settings=[*self._paths])

    def _take(self, contents: list[bytes] | str) -> None:
        if isinstance(contents, str):
            raise Unacceptable(contents)
        self._accept(contents)

    def _read(self) -> list[bytes] | str:
        """Return the contents, or why there are none."""
        contents = []
        for setting, path in self._paths.items():
            try:
                with path.open("rb") as file:
                    content = file.read(LONGEST + 1)
            except OSError as error:
                return f"{setting}: {path} cannot be read ({error.strerror})"
            if len(content) > LONGEST:
                return f"{setting}: {path} is longer than {LONGEST} bytes"
            contents.append(content)
        return contents
