"""The log of a run's trainings: JSON lines, and events for TensorBoard."""

import json
import pathlib
import sys
import time

from brittle_jax import files

# Only to annotate arguments, tensorboardX imports PyTorch if it is installed. That takes seconds, so PyTorch is hidden.
sys.modules.setdefault("torch", None)
try:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
finally:
    if sys.modules["torch"] is None:
        del sys.modules["torch"]

_SECONDS_TO_FLUSH = 30.0  # that TensorBoard lags behind at most


class MetricLog:
    """Writes metrics to `metrics.jsonl` and as TensorBoard events, under `DIR/tensorboard`."""

    def __init__(self, workdir: pathlib.Path):
        """Goes on with the log of an earlier process.

        Raises:
            UserError: if it cannot be written.
        """
        self._path = workdir / "metrics.jsonl"
        with files.explaining_write_errors(self._path):
            was_cut_off = self._path.is_file() and self._path.read_bytes()[-1:] not in (b"", b"\n")
            self._file = open(self._path, "a", encoding="utf-8")
            if was_cut_off:
                self._file.write("\n")  # a killed run left half a line: only that one is lost
            folder = workdir / "tensorboard"
            folder.mkdir(exist_ok=True)
            # Not SummaryWriter: a full disk ends its thread, and the run would wait for that thread forever. Files are
            # named after the second, and overwritten: a process that starts within the same one needs another suffix.
            self._events = EventsWriter(str(folder / "events"), f".{sum(1 for _ in folder.iterdir())}")
        self._flushed = time.monotonic()

    def write(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Records the metrics of a stage, such as "distill unimodal/airplane", after `step` updates.

        Raises:
            UserError: if they cannot be written.
            OSError: if the disk is full.
        """
        values = [
            Summary.Value(tag=f"{stage}/{name}".replace(" ", "/"), simple_value=value)
            for name, value in metrics.items()
        ]
        with files.explaining_write_errors(self._path):
            self._file.write(json.dumps({"stage": stage, "step": step, **metrics}) + "\n")
            self._file.flush()
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
