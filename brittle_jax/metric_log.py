"""The log of a run's trainings: JSON lines, and events for TensorBoard."""

import json
import pathlib
import time

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

_SECONDS_TO_FLUSH = 30.0  # that TensorBoard lags behind at most


class MetricLog:
    """Writes metrics to `metrics.jsonl` and as TensorBoard events, under `DIR/tensorboard`."""

    def __init__(self, workdir: pathlib.Path):
        path = workdir / "metrics.jsonl"
        was_cut_off = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = open(path, "a", encoding="utf-8")
        if was_cut_off:
            self._file.write("\n")  # a killed run left half a line: only that one is lost
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # Not SummaryWriter: a full disk ends its thread, and the run would wait for that thread forever.
        self._events = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()

    def write(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Records the metrics of a stage, such as "distill unimodal/airplane", after `step` updates.

        Raises:
            OSError: if they cannot be written.
        """
        self._file.write(json.dumps({"stage": stage, "step": step, **metrics}) + "\n")
        self._file.flush()
        values = [
            Summary.Value(tag=f"{stage}/{name}".replace(" ", "/"), simple_value=value)
            for name, value in metrics.items()
        ]
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() - self._flushed > _SECONDS_TO_FLUSH:
            self._events.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes both."""
        try:
            self._file.close()
        finally:
            self._events.close()
