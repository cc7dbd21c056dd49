"""
Network delays before a request's arrival and after its response, with jitter and stalls.

Round trips of the profiles: `lan` about 82 ms, steady; `typical` 60 to 140 ms, with 0.1 % stalls of 100 to 400 ms;
`bad` about 260 ms, with 1 % stalls of up to a second.
"""

import dataclasses
import random
import re


@dataclasses.dataclass(frozen=True)
class Profile:
    """One direction of the path, in seconds: the minimum delay, jitter, and occasional stalls."""

    least: float
    jitter: float
    longest_jitter: float
    stalls: float = 0.0
    stall: tuple[float, float] = (0.0, 0.0)


PROFILES = {
    "none": Profile(0.0, 0.0, 0.0),
    "lan": Profile(0.0405, 0.0003, 0.001),
    "typical": Profile(0.030, 0.012, 0.040, 0.0005, (0.1, 0.4)),
    "bad": Profile(0.060, 0.070, 0.500, 0.005, (0.2, 1.0)),
}


def profile(text: str) -> Profile:
    """
    Parse a profile's name, or the smallest and largest round trip in milliseconds, such as `20-60`.

    Raises:
        ValueError: The text is neither.
    """
    if text in PROFILES:
        return PROFILES[text]
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"latency must be one of {', '.join(PROFILES)} or milliseconds such as 20-60, not {text!r}")
    least, longest = int(match[1]) / 2000, int(match[2]) / 2000
    return Profile(least, (longest - least) / 3, longest - least)


class Network:
    """Draws delays."""

    def __init__(self, path: Profile, seed: int) -> None:
        self.path = path
        self._rng = random.Random(f"{seed}/network")

    def delay(self) -> float:
        """Draw the delay of one direction, in seconds."""
        path = self.path
        if not path.longest_jitter:
            return path.least
        took = path.least + min(self._rng.expovariate(1 / path.jitter), path.longest_jitter)
        if path.stalls and self._rng.random() < path.stalls:
            took += self._rng.uniform(*path.stall)
        return took
