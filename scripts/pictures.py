"""Make the pictures of README.md from the real thing: uv run python scripts/pictures.py [FOLDER [PORT]]

Generates a project, starts it, sends it requests and stops it; photographs the page of the lesson in Chromium
(Debian: apt-get install chromium), light and dark, and what the terminal said, and the tree of files.
"""

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

TEMPLATE = Path(__file__).resolve().parent.parent
PICTURES = Path(sys.argv[1]) if sys.argv[1:] else TEMPLATE / "docs" / "pictures"
NAMES = "chromium", "chromium-browser", "google-chrome"
PORT = int(sys.argv[2]) if sys.argv[2:] else 8000
URL = f"http://127.0.0.1:{PORT}"

SHEET = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 20px 24px; background: {paper}; color: {ink}; width: max-content; }}
pre {{ margin: 0; font: 15px/1.45 "DejaVu Sans Mono", monospace; white-space: pre; }}
b {{ color: {accent}; font-weight: normal; }}
i {{ color: {quiet}; font-style: normal; }}
</style><pre>{text}</pre>"""
COLOURS = {
    "light": {"paper": "#ffffff", "ink": "#1f2328", "accent": "#0550ae", "quiet": "#59636e"},
    "dark": {"paper": "#0d1117", "ink": "#e6edf3", "accent": "#79c0ff", "quiet": "#9198a1"},
}
ABOUT = {
    "app/main.py": "the FastAPI app",
    "app/bus.py": "on, emit",
    "app/events.py": "what can happen",
    "app/handlers": "what's done then",
    "tests": "a test for each row and each promise",
    "lesson": "the page, the quiz, the exercises; doesn't ship",
    "TUTORIAL.md": "the lesson",
    "answers.toml": "the learner's answers",
}


def environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return mine | {"NO_COLOR": "1", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}


def generate(folder: Path) -> tuple[Path, str]:
    """Generate a project in `folder`; return it, and what cookiecutter printed."""
    command = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment() | {"PWD": str(folder)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    project = folder / "event-service"
    subprocess.run(["uv", "sync", "--quiet"], cwd=project, env=environment(), check=True)
    return project, done.stdout.strip()


class Service:
    """The project's own dev server, and the file with what it prints."""

    def __init__(self, project: Path, log: Path) -> None:
        self.log = log
        # No reload: the watcher's lines come and go with the machine.
        command = ["uv", "run", "fastapi", "dev", "--no-reload", "--port", str(PORT)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=project, env=environment(), stdout=file, stderr=subprocess.STDOUT
            )
        for _ in range(400):
            try:
                urllib.request.urlopen(f"{URL}/lesson/steps", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"Nothing answers on port {PORT}:\n{log.read_text(encoding='utf-8')}")

    def stop(self) -> str:
        """Press Ctrl+C; return all that was printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=30)
        return self.log.read_text(encoding="utf-8")


def ask(path: str, body: dict[str, Any] | None = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


def photograph_page(browser: Browser, scheme: Any) -> None:
    """Photograph the page with rows 1 and 2 happened and the flow lit."""
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": 1100, "height": 760},
        reduced_motion="reduce",
        device_scale_factor=0.85,
    )
    page = context.new_page()
    with page.expect_websocket() as socket:
        page.goto(f"{URL}/lesson")
    assert socket.value
    page.locator("#state", has_text="Idle").wait_for()
    time.sleep(1)
    ask("/")
    ask("/orders", {"item": "tea", "quantity": 2})
    page.locator("#rows tbody tr").nth(1).get_by_text("not yet").first.wait_for(state="detached")
    page.locator("#boxes li.lit").first.wait_for()
    table = page.locator("#rows").bounding_box()
    assert table
    clip = {"x": 0, "y": 0, "width": 1100, "height": table["y"] + table["height"] + 24}
    page.screenshot(path=PICTURES / f"page-{scheme}.png", full_page=True, clip=clip)  # type: ignore[arg-type]
    context.close()


def photograph_text(browser: Browser, name: str, text: str) -> None:
    """Photograph `text`, HTML for a <pre>, in both colour schemes."""
    for scheme, colours in COLOURS.items():
        page = browser.new_page(viewport={"width": 400, "height": 100})
        page.set_content(SHEET.format(text=text, **colours))
        page.locator("body").screenshot(path=PICTURES / f"{name}-{scheme}.png")
        page.close()


def terminal(generated: str, printed: str, answer: str) -> str:
    """Return what the terminal showed, from the command to the end of the service."""
    start = printed.index("App is starting")
    lines = [html.escape(line.strip()) for line in printed[start:].splitlines() if line.strip()]
    asked = next(number for number, line in enumerate(lines) if "GET / " in line)
    stopped = lines.index("Cleanup done")  # the lesson runs the shutdown before the server's own
    return "\n".join(
        [
            "<b>$</b> uvx cookiecutter gh:org/evtemplate --no-input",
            html.escape(generated),
            "",
            "<b>$</b> cd event-service",
            "<b>$</b> uv run fastapi dev",
            *(line for line in lines[:asked] if "/lesson" not in line),
            f"<i># in another terminal: curl {URL}/</i>",
            f"<i># {html.escape(answer)}</i>",
            lines[asked],
            "<i># Ctrl+C</i>",
            *lines[stopped:],
        ]
    )


def tree(project: Path) -> str:
    """Return the files of the project as a tree, with a word on those that matter."""
    hidden = {".venv", ".lesson", "uv.lock", "__pycache__", ".ruff_cache", ".pytest_cache"}

    def below(folder: Path, indent: str) -> list[str]:
        lines = []
        entries = [path for path in folder.iterdir() if path.name not in hidden]
        entries.sort(key=lambda path: (path.is_file(), path.name.lower()))
        for number, path in enumerate(entries, 1):
            last = number == len(entries)
            where = path.relative_to(project).as_posix()
            name = path.name + "/" * path.is_dir()
            about = f"  <i>{ABOUT[where]}</i>" if where in ABOUT else ""
            branch = indent + ("└── " if last else "├── ")
            shown = f"{branch}<b>{name}</b>" if path.is_dir() else f"{branch}{name}"
            lines.append(f"{shown}{' ' * max(0, 34 - len(branch + name)) if about else ''}{about}")
            if path.is_dir() and path.name in ("app", "handlers"):
                lines += below(path, indent + ("    " if last else "│   "))
        return lines

    return "\n".join([f"<b>{project.name}/</b>", *below(project, "")])


def main() -> None:
    chromium = next((path for name in NAMES if (path := shutil.which(name))), None)
    if chromium is None:
        raise SystemExit("Install Chromium first; on Debian: apt-get install chromium")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        project, generated = generate(Path(folder))
        files = tree(project)
        service = Service(project, Path(folder) / "log.txt")
        try:
            answer = ask("/")
            for scheme in COLOURS:
                photograph_page(browser, scheme)
        finally:
            printed = service.stop()
        photograph_text(browser, "terminal", terminal(generated, printed, answer))
        photograph_text(browser, "tree", files)
        browser.close()


if __name__ == "__main__":
    main()
