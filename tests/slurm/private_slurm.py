"""A Slurm of one's own on this machine, with two nodes of one made-up GPU each, for as long as a block lasts.

    python tests/slurm/private_slurm.py COMMAND...

runs a command in it, such as `bash`. It needs root, and Debian's packages slurmctld, slurmd, slurm-client and munge. It
writes to a temporary folder only, and leaves no process behind.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
NODES = ("n1", "n2")
SEARCH_PATH = os.environ["PATH"] + ":/usr/sbin"

CONFIGURATION = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
# cred_expire is also how many seconds a requeued job waits.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
# Nothing that needs systemd, cgroups or a database.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
# Nodes have what is written here, whatever the machine has.
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def lacks() -> str:
    """Returns why a private Slurm cannot be had here; empty if it can."""
    if os.geteuid() != 0:
        return "a private Slurm needs root"
    missing = [program for program in PROGRAMS if shutil.which(program, path=SEARCH_PATH) is None]
    return f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)" if missing else ""


class PrivateSlurm:
    """A running Slurm; `environment` has what its commands and jobs need."""

    def __init__(self, folder: pathlib.Path):
        self._folder, self._daemons = folder, []
        self.environment = {**os.environ, "PATH": SEARCH_PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        for name in [name for name in self.environment if name.startswith(("SLURM_", "SBATCH_"))]:
            if name != "SLURM_CONF":  # those of a job that runs this test
                del self.environment[name]

    def call(self, *command: str | pathlib.Path, **options) -> str:
        """Returns what a command prints; raises CalledProcessError if it fails."""
        options = {"env": self.environment, "timeout": 30, **options}
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout.strip()
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    def start(self):
        """Starts the daemons; returns when both nodes are up."""
        (self._folder / "state").mkdir()
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets]
        text = CONFIGURATION.format(host=socket.gethostname().partition(".")[0], folder=self._folder, ports=ports)
        (self._folder / "slurm.conf").write_text(text, encoding="utf-8")
        (self._folder / "gres.conf").write_text("Name=gpu File=/dev/null\n", encoding="utf-8")
        key, at = self._folder / "munge.key", self._folder / "munge"
        self.call("mungekey", "--create", f"--keyfile={key}")
        munge = [f"--socket={at}.socket", f"--key-file={key}", f"--pid-file={at}.pid", f"--seed-file={at}.seed"]
        self._start("munged", "--foreground", "--force", *munge, f"--log-file={at}.log")
        self._until((self._folder / "munge.socket").exists)
        self._start("slurmctld", "-D", "-c")
        for node in NODES:
            (self._folder / f"spool.{node}").mkdir()
            self._start("slurmd", "-D", "-c", "-N", node)
        self._until(lambda: self._nodes() == ["idle", "idle"])

    def stop(self):
        """Cancels all jobs, and ends every process of this Slurm."""
        with contextlib.suppress(subprocess.SubprocessError):
            for job in self.call("squeue", "--noheader", "--format=%A").split():
                self.call("scancel", job)
            for job in self.call("squeue", "--noheader", "--format=%A").split():
                self.call("scancel", "--signal=KILL", "--full", job)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=5)
        while left := self.processes():
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for daemon in self._daemons:
                daemon.poll()
            time.sleep(0.1)
        for daemon in self._daemons:
            daemon.wait()  # one that had to be killed has not been waited for yet

    def logs(self) -> str:
        """Returns the ends of all logs, to find out why something went wrong."""
        files = sorted([*self._folder.glob("*.log"), *self._folder.glob("*.out")])
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)

    def processes(self) -> list[int]:
        """Returns the processes of this Slurm and of its jobs: they know the path of its settings, or use its files."""
        mark = f"SLURM_CONF={self._folder / 'slurm.conf'}".encode()
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue
                is_marked = mark in process.joinpath("environ").read_bytes().split(b"\0")
                # slurmstepd writes its title over its environment.
                opened = {os.readlink(each) for each in process.joinpath("fd").iterdir()}
                if is_marked or any(file.startswith(f"{self._folder}/") for file in opened):
                    found.append(int(process.name))
        return found

    def _start(self, *command):
        with open(self._folder / f"{command[0]}.out", "ab") as output:
            daemon = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
        self._daemons.append(daemon)

    def _nodes(self):
        try:
            return self.call("sinfo", "--noheader", "--Node", "--format=%T").split()
        except subprocess.CalledProcessError:
            return []

    def _until(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or any(daemon.poll() is not None for daemon in self._daemons):
                raise RuntimeError(f"Slurm did not start\n{self.logs()}")
            time.sleep(0.1)


@contextlib.contextmanager
def private_slurm() -> Iterator[PrivateSlurm]:
    """Yields a Slurm that lasts as long as the block."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slurm-"))  # short, as the path of a socket has to be
    slurm = PrivateSlurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if reason := lacks():
        sys.exit(reason)
    with private_slurm() as its:
        sys.exit(subprocess.call(sys.argv[1:], env=its.environment))
