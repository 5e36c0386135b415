import json
import resource
import struct
import subprocess
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event

from brittle_jax.errors import UserError
from brittle_jax.metric_log import MetricLog


def test_tensorboard_gets_what_metrics_jsonl_has(tmp_path):
    log = MetricLog(tmp_path)
    for step in range(1, 8):
        log.write("distill unimodal/airplane", step, {"loss": 1 / step})
    log.close()
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert records[2] == {"stage": "distill unimodal/airplane", "step": 3, "loss": 1 / 3}
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    data, start, events = file.read_bytes(), 0, []
    while start < len(data):  # length and its checksum, event and its checksum
        (length,) = struct.unpack_from("<Q", data, start)
        events.append(Event.FromString(data[start + 12 : start + 12 + length]))
        start += 16 + length
    values = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert values == [
        (record["step"], "distill/unimodal/airplane/loss", pytest.approx(record["loss"])) for record in records
    ]


def test_metrics_that_cannot_be_written_end_the_run(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = MetricLog(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, hard))
    try:
        with pytest.raises(UserError, match="metrics.jsonl cannot be written .File too large.: raise the limit"):
            for step in range(10_000):
                log.write("distill", step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.close()


def test_pytorch_is_not_imported_but_stays_importable(tmp_path):
    (tmp_path / "torch.py").write_text("", encoding="utf-8")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import brittle_jax.metric_log
assert "torch" not in sys.modules
import torch
assert torch.__file__.startswith({str(tmp_path)!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True)
