"""Runs modules as `python -m` does, in copies of one process that has imported JAX already.

    python warm_python.py serve SOCKET              waits for callers
    python -S warm_python.py call SOCKET -m MODULE  has a copy run a module; passes SIGTERM on, and its exit code back

A network that compiles in a moment has the name `mini`.
"""

import json
import os
import signal
import socket
import sys


def serve(path):
    import runpy

    sys.path.insert(0, __file__.rpartition("/tests/")[0])
    import brittle_jax.run.experiment  # noqa: F401
    from brittle_jax.models.network import ARCHITECTURES
    from tests.mini_network import MINI

    ARCHITECTURES["mini"] = MINI
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    while True:
        caller, _ = listener.accept()
        if os.fork():
            caller.close()
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have answered; one is always left, which has just begun
                pass
            continue
        message, outputs, *_ = socket.recv_fds(caller, 2**16, 2)
        if process := os.fork():
            caller.send(str(process).encode())
            caller.send(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) % 256).encode())
            os._exit(0)
        caller.close()
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        _, module, *arguments = json.loads(message)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()


def call(path, *arguments):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(path)
    socket.send_fds(server, [json.dumps(arguments).encode()], [1, 2])
    process = int(server.recv(64))
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(process, number))
    sys.exit(int(server.recv(64)))


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
