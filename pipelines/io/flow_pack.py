"""Reading estimated flow: fixed-point numbers in memory-mapped files beside the prepared frames.

<variant>/flow/<name>/lag-<lag>/ holds, for every video of the variant in its order,
  index.json          who estimated it and how, statistics, the SHA-256 of every data file
  flow-000.i16 ..     [n 2 S S] int16, 1/64 pixel; the pairs of a video lie together in one file
  reliable-000.u1 ..  [n bytes] one bit per pixel, where the check was asked for
  pairs.npz           shard, offset, count of each video; for each pair: is it valid, the largest,
                      smallest and mean length of its motion, the part of it that is reliable
  done.json           what it was made from
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key, read_json

FLOW_FORMAT = "i2v-flow"
FLOW_VERSION = 1
FLOW_STEPS = 64
"""Stored flow values per pixel of motion."""
FLOW_UNKNOWN = -32768
PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)


def decode_flow(steps: np.ndarray) -> np.ndarray:
    """Stored int16 as pixels: float32, nan where it is not known."""
    pixels = steps / np.float32(FLOW_STEPS)
    return np.where(steps == FLOW_UNKNOWN, np.float32(np.nan), pixels).astype(np.float32)


def mask_bytes(size_px: int) -> int:
    """Bytes of one pair's bits."""
    return -(-size_px * size_px // 8)


class FlowPack:
    """The estimated flow of one lag, opened for reading; safe to hand to other processes.

    index: the content of index.json.  size_px: height and width of the stored flow.
    counts: pairs of each video (int64 array); a video shorter than the lag has none.
    """

    def __init__(self, folder: Path) -> None:
        """Raises UserError with exit code 4 when the folder is not complete."""
        self.dir = Path(folder)
        self.index = _read_index(self.dir)
        self.lag: int = self.index["lag"]
        self.size_px: int = self.index["size_px"]
        with np.load(self.dir / "pairs.npz", allow_pickle=False) as columns:
            self._columns = {name: columns[name] for name in columns.files}
        self.counts = self._columns["count"]
        self._firsts = np.concatenate([[0], np.cumsum(self.counts)])
        self._maps: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: each process maps them for itself."""
        return self.__dict__ | {"_maps": {}}

    @property
    def statistics(self) -> dict[str, Any]:
        """Over all valid pairs: max_norm, min_norm, mean_norm, percentiles {"10": .., .. "90": ..}.

        Lengths of motion in pixels of the stored flow; the percentiles are of the pairs' largest.
        """
        return dict(self.index["statistics"])

    def flow(self, row: int, start: int, count: int = 1) -> np.ndarray:
        """Motion from frames start, ... to the frames `lag` later: float32 [count 2 S S].

        Pixels of the stored size, channel 0 x (right), channel 1 y (down), nan where it is not
        known. Raises IndexError where this video has no such pair.
        """
        first = self._place(row, start, count)
        stored = self._map("flow", row, np.int16, (2, self.size_px, self.size_px))
        return decode_flow(stored[first : first + count])

    def reliable(self, row: int, start: int, count: int = 1) -> np.ndarray:
        """Where forward and backward motion agree: bool [count S S]; everywhere when not checked.

        Raises IndexError where this video has no such pair.
        """
        first = self._place(row, start, count)
        shape = (count, self.size_px, self.size_px)
        if not self.index["is_checked"]:
            return np.ones(shape, bool)
        stored = self._map("reliable", row, np.uint8, (mask_bytes(self.size_px),))
        bits = np.unpackbits(stored[first : first + count], axis=1, count=self.size_px**2)
        return bits.astype(bool).reshape(shape)

    def pairs(self, row: int) -> dict[str, np.ndarray]:
        """One entry per pair of a video: is_valid (bool), and float32 max_norm, min_norm,
        mean_norm (pixels) and reliable_part (0..1).
        """
        chosen = slice(int(self._firsts[row]), int(self._firsts[row + 1]))
        names = ("is_valid", "max_norm", "min_norm", "mean_norm", "reliable_part")
        return {name: self._columns[name][chosen] for name in names}

    def reliable_part(self) -> float:
        """The part of all pixels, in all pairs, whose forward and backward motion agree."""
        parts = self._columns["reliable_part"]
        return float(parts.mean(dtype=np.float64)) if len(parts) else 1.0

    def _place(self, row: int, start: int, count: int) -> int:
        available = int(self.counts[row])
        if start < 0 or count < 0 or start + count > available:
            raise IndexError(f"video {row}: {count} pairs from frame {start} on, of {available}")
        return int(self._columns["offset"][row]) + start

    def _map(self, kind: str, row: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        name = data_name(kind, int(self._columns["shard"][row]))
        if name not in self._maps:
            mapped = np.memmap(self.dir / name, dtype, "r")
            self._maps[name] = np.asarray(mapped).reshape(-1, *shape)
        return self._maps[name]


class EstimatedFlow:
    """All lags under one name, opened as they are asked for; safe to hand to other processes."""

    def __init__(self, variant_dir: Path, dataset: str, name: str) -> None:
        self.name = name
        self._variant_dir, self._dataset = variant_dir, dataset
        self._packs: dict[int, FlowPack] = {}

    @property
    def lags(self) -> list[int]:
        """In prepared frames, ascending."""
        return flow_lags(self._variant_dir, self.name)

    def of_lag(self, lag: int) -> FlowPack:
        """The flow of a lag. Raises UserError with exit code 4 when it is not estimated."""
        if lag not in self._packs:
            self._packs[lag] = find_flow(self._variant_dir, self._dataset, name=self.name, lag=lag)
        return self._packs[lag]

    def flow(self, lag: int, row: int, start: int, count: int = 1) -> np.ndarray:
        """See FlowPack.flow, and PackedVideos.flow, which gives the true motion."""
        return self.of_lag(lag).flow(row, start, count)


def data_name(kind: str, shard: int) -> str:
    """The file of a shard; kind: flow or reliable."""
    return f"{kind}-{shard:03d}.{'i16' if kind == 'flow' else 'u1'}"


def flow_names(variant_dir: Path) -> list[str]:
    """Names under which a variant has estimated flow of some lag, in natural order."""
    parents = {path.parents[1].name for path in variant_dir.glob("flow/*/lag-*/index.json")}
    complete = (name for name in parents if flow_lags(variant_dir, name))
    return sorted(complete, key=natural_key)


def flow_lags(variant_dir: Path, name: str) -> list[int]:
    """The lags that are complete under a name, ascending."""
    there = (variant_dir / "flow" / name).glob("lag-*/index.json")
    numbers = (path.parent.name.removeprefix("lag-") for path in there)
    return sorted(int(number) for number in numbers if number.isdecimal())


def flow_dir(variant_dir: Path, name: str, lag: int) -> Path:
    """Where the flow of a lag lies."""
    return variant_dir / "flow" / name / f"lag-{lag}"


def find_flow(
    variant_dir: Path, dataset: str, *, name: str | None = None, lag: int | None = None
) -> FlowPack:
    """The flow under a name and of a lag; the only name and the smallest lag when not given.

    Raises UserError: exit code 4 when there is none, with the command that estimates it.
    """
    names = flow_names(variant_dir)
    chosen = name if name is not None or len(names) != 1 else names[0]
    if chosen is None and names:
        raise UserError(
            f"dataset '{dataset}' has several estimates of its flow",
            {"there are": ", ".join(names), "to fix": f"name one, such as {names[0]}"},
            EXIT_NO_DATA,
        )
    lags = flow_lags(variant_dir, chosen) if chosen else []
    wanted = lag if lag is not None else (lags[0] if lags else None)
    if chosen is None or wanted not in lags:
        command = f"i2v estimate-flow {dataset} --variant {variant_dir.name}"
        options = _options(variant_dir, chosen) if chosen else ""
        options += f" --lags {lag}" if lag is not None else ""
        what = f" to {lag} frames later" if lag is not None else ""
        there = ", ".join(f"{each} (lag {_joined(variant_dir, each)})" for each in names)
        raise UserError(
            f"no estimated flow{what} for dataset '{dataset}'"
            + (f" by '{chosen}'" if chosen else ""),
            {
                "looked in": variant_dir / "flow",
                **({"there is": there} if there else {}),
                "run first": command + options,
            },
            EXIT_NO_DATA,
        )
    return FlowPack(flow_dir(variant_dir, chosen, wanted))


def _options(variant_dir: Path, name: str) -> str:
    """The options under which flow gets a name."""
    lags = flow_lags(variant_dir, name)
    if not lags:
        return f" --estimator {name}"
    estimator = read_json(flow_dir(variant_dir, name, lags[0]) / "index.json")["estimator"]
    return f" --estimator {estimator}" + (f" --name {name}" if name != estimator else "")


def _joined(variant_dir: Path, name: str) -> str:
    return ", ".join(str(lag) for lag in flow_lags(variant_dir, name))


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = read_json(folder / "index.json")
    except FileNotFoundError:
        raise UserError(
            "no estimated flow here",
            {"looked in": folder, "run first": "i2v estimate-flow"},
            EXIT_NO_DATA,
        ) from None
    if index.get("format") != FLOW_FORMAT or index.get("version") != FLOW_VERSION:
        raise UserError(
            "estimated flow of a format that this version does not read",
            {
                "folder": folder,
                "format": f"{index.get('format')} {index.get('version')}",
                "to fix": "estimate it again with i2v estimate-flow --rebuild",
            },
            EXIT_NO_DATA,
        )
    return dict(index)
