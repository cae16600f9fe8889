"""The page of `zeroshot app`: as a server that is asked without a browser, and clicked through in headless Chromium."""

from __future__ import annotations

import base64
import csv
import gc
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeroshot
from zeroshot.app import answer, build_app, launch_app
from zeroshot.cli import main
from zeroshot.workbench import Question, Workbench

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None, reason="no gradio: pip install 'zeroshot-clip[app]'"
    ),
]
IMAGES = Path(__file__).parents[2] / "examples" / "images"
NAMES = ("cat", "rocket", "coffee")
LABELS = ("cat", "rocket", "cup of coffee")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The command, in a process that notes every address beyond this machine that it asks for. Warnings are errors in it.
SERVER = """
import asyncio, signal, socket, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts behind itself
own = ("127.0.0.1", "localhost", "0.0.0.0", "::1", None, "")
def watch(name, address_of):
    original = getattr(socket, name) if hasattr(socket, name) else None
    def asked(*arguments, **options):
        address = address_of(arguments)
        if address not in own:
            print("asked for", address, file=sys.stderr, flush=True)
        return original(*arguments, **options)
    setattr(socket, name, asked)
watch("getaddrinfo", lambda arguments: arguments[0])
class Watched(socket.socket):
    def connect(self, address):
        if isinstance(address, tuple) and address[0] not in own:
            print("connected to", address, file=sys.stderr, flush=True)
        return super().connect(address)
socket.socket = Watched
if "--leak" in sys.argv:
    asyncio.new_event_loop()
    try:
        socket.create_connection(("192.0.2.1", 9), timeout=0.01)
    except OSError:
        sys.exit(0)
from zeroshot.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Server:
    """A running ``zeroshot app``: its address, and what it printed on standard error."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/"
        self.log = folder / "stderr.txt"
        self.uploads = folder / "uploads"
        self.uploads.mkdir()
        command = [sys.executable, "-W", "error", "-c", SERVER, "app", "--no-open", "--port", str(port)]
        command += ["--labels", *LABELS, "--max-megabytes", "1", "--max-pictures", "5"]
        # What the page must not follow: each of these would show it to others.
        unwanted = {"GRADIO_SHARE": "True", "GRADIO_MCP_SERVER": "True", "GRADIO_SERVER_NAME": "0.0.0.0"}
        own = {"HF_HUB_OFFLINE": "1", "ZEROSHOT_CACHE": str(folder / "cache"), "TMPDIR": str(self.uploads)}
        environment = {**os.environ, **unwanted, **own, "HF_HOME": str(folder / "hf")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stderr=log, env=environment, cwd=Path(zeroshot.__file__).parents[1]
            )
        while "the page is at" not in self.errors:
            assert self.process.poll() is None, self.errors
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue

    @property
    def errors(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def complaints(self) -> list[str]:
        return [line for line in self.errors.splitlines() if not line.startswith("zeroshot: the page is at")]

    def get(self, path: str, **headers: str) -> Any:
        request = urllib.request.Request(self.address + path, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    uploaded = [path for path in running.uploads.rglob("*") if path.is_file()]
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(120) == 0
    assert running.complaints == []
    left = [path for path in running.uploads.rglob("*") if path.is_file()]
    assert (len(uploaded) > 0, left) == (True, [])  # what was uploaded goes with the server


# --------------------------------------------------------------------------------------------------- without a browser


def test_answers_as_the_page_shows_them(tmp_path: Path) -> None:
    bench, cat = Workbench(device="cpu"), str(IMAGES / "cat.jpg")
    *_, (status, cards, table, python) = answer(bench, [cat], Question("cat\n<b>dog</b>"))
    assert "1 picture, 2 labels." in status
    assert cards is not None
    assert "&lt;b&gt;dog&lt;/b&gt;" in cards
    assert "<b>dog" not in cards + str(table)
    assert python["visible"] is True
    [*_, (status, cards, _, python)] = answer(bench, [cat], Question("cat"), {0: 0})
    assert "&#x27;cat&#x27; is the only label" in str(cards)
    assert "zs-pick" not in str(cards)
    assert "explain" not in python["value"]
    [(status, *rest)] = list(answer(bench, [cat], Question("cat", templates="a {} {}")))
    assert "2 slots; expected exactly one {}" in status
    assert "The scores below are those before this change." in status
    assert rest == [None, None, None]  # the old ones stay
    [*_, (status, cards, *_)] = answer(bench, [], Question("cat"))
    assert (cards, "Drop pictures" in status) == ("", True)


def test_building_the_page_changes_nothing_outside() -> None:
    before = dict(os.environ)
    page = build_app(model="ViT-B-32/openai", prompts="food101")
    assert dict(os.environ) == before
    assert page.analytics_enabled is False
    gc.collect()  # an event loop that was left open would warn now
    with pytest.raises(zeroshot.errors.PromptNotFoundError, match="no shipped prompt set"):
        build_app(prompts="fod101")


def test_programs_find_no_interface(server: Server) -> None:
    info = json.loads(server.get("gradio_api/info"))
    assert (info["named_endpoints"], info["unnamed_endpoints"]) == ({}, {})
    for path in ("gradio_api/mcp/sse", "monitoring/summary", "docs", "redoc"):
        with pytest.raises(urllib.error.HTTPError):
            server.get(path)
    config = json.loads(server.get("config"))
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []


def test_another_name_of_this_machine_is_refused(server: Server) -> None:
    # What a site sends whose name was made to point to this machine.
    assert "gradio" in server.get("")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        server.get("", Host="attacker.example:80")


@pytest.mark.parametrize(("host", "address"), [("127.8.9.1", "http://127.8.9.1:"), ("::1", "http://[::1]:")])
def test_other_addresses_of_this_machine_alone(host: str, address: str) -> None:
    page = build_app()
    try:
        found = launch_app(page, host=host, block=False)
    except zeroshot.errors.OptionError:
        pytest.skip("no such address here")
    try:
        assert found.startswith(address)
        with urllib.request.urlopen(found, timeout=60) as response:
            assert response.status == 200
        rebound = urllib.request.Request(found, headers={"Host": "attacker.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(rebound, timeout=60)
        refused.value.close()
    finally:
        page.close(verbose=False)


@pytest.mark.parametrize(("size", "status"), [(500_000, 200), (1_500_000, 413)])
def test_files_that_are_too_large_are_refused(server: Server, size: int, status: int) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + bytes(size)
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(server.address + "gradio_api/upload", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            found = response.status
    except urllib.error.HTTPError as error:
        found = error.code
    assert found == status


def test_the_watch_sees_connections_and_warnings() -> None:
    command = [sys.executable, "-W", "error", "-c", SERVER, "--leak"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "connected to ('192.0.2.1', 9)" in done.stderr
    assert "ResourceWarning: unclosed event loop" in done.stderr


def test_another_host_is_warned_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    launched: dict[str, Any] = {}
    monkeypatch.setattr("zeroshot.app.launch_app", lambda page, **options: launched.update(options) or "http://…")
    monkeypatch.setattr("gradio.Blocks.block_thread", lambda page: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "put back after the test")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1)
    assert main(["app", "--host", "0.0.0.0", "--no-open", "--max-pixels", "1000"]) == 0
    assert "warning: 0.0.0.0 is not of this machine alone" in capsys.readouterr().err
    assert (launched["host"], launched["open_browser"]) == ("0.0.0.0", False)
    assert main(["app"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert (launched["host"], launched["open_browser"]) == ("127.0.0.1", True)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "put back after the test")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["app", "--no-open", "--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 is taken" in message
    assert message.count("\n") == 1


# ----------------------------------------------------------------------------------------------------------- a browser


class Visitor:
    """A page in the browser, and every address that it asked for."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.asked: list[str] = []
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.requestWillBeSent", lambda event: self.asked.append(event["request"]["url"]))
        session.on("Network.webSocketCreated", lambda event: self.asked.append(event["url"]))
        page.goto(address)
        page.wait_for_selector("#labels textarea")

    @property
    def outside(self) -> list[str]:
        inside = (self.address, "data:", "blob:", "about:")
        return [url for url in self.asked if not url.startswith(inside)]

    def drop(self, *names: str) -> None:
        before = self.page.locator(".zs-card").count()
        self.page.set_input_files("#pictures input[type=file]", [IMAGES / f"{name}.jpg" for name in names])
        self.wait_for_cards(before + len(names))

    def wait_for_cards(self, count: int) -> None:
        self.page.wait_for_function("count => document.querySelectorAll('.zs-card').length === count", arg=count)

    def fill(self, field: str, text: str) -> None:
        self.page.fill(f"#{field} textarea", text)

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text, exact=False).first.wait_for()

    def labels(self) -> list[str]:
        return self.page.locator(".zs-label").all_inner_texts()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        options = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    contexts = []

    def open_page(width: int = 1280, scheme: str = "light") -> Visitor:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(120_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        return Visitor(context.new_page(), server.address)

    yield open_page
    for context in contexts:
        context.close()


def test_clicking_through(visit: Any, server: Server, tmp_path: Path) -> None:
    visitor = visit()
    page = visitor.page
    visitor.drop(*NAMES)
    assert visitor.labels() == list(LABELS)

    # Labels, with synonyms; and a background.
    visitor.fill("labels", "coffee = cup of coffee, espresso\nspacecraft = rocket\nanimal = cat")
    page.wait_for_function("document.querySelector('.zs-label').textContent === 'animal'")
    assert visitor.labels() == ["animal", "spacecraft", "coffee"]

    # A prompt set brings its templates; its classes come on demand.
    page.click("#prompts input")
    page.get_by_role("option", name="cifar10", exact=True).click()
    page.wait_for_function("document.querySelector('#templates textarea').value.startsWith('a photo of a {}.')")
    page.wait_for_function("document.querySelector('#templates textarea').value.includes('a blurry photo of a {}.')")
    page.locator("#python", has_text='prompts="cifar10"').wait_for()
    page.click("#classes")
    page.wait_for_function("document.querySelector('#labels textarea').value.startsWith('airplane')")
    page.wait_for_function("document.querySelector('#status').textContent.includes('10 labels')")
    assert visitor.labels()[0] == "cat"

    # A mistake while typing: the message of the library, the old scores, no traceback.
    visitor.fill("templates", "a drawing of a {")
    visitor.wait_for("expected exactly one {}")
    assert visitor.labels()[0] == "cat"
    assert "Traceback" not in page.content()
    assert page.locator(".toast-wrap .error").count() == 0
    visitor.fill("templates", "a drawing of a {}\n\na {}, drawn")
    page.locator("#python", has_text='prompts=["a drawing of a {}", "a {}, drawn"]').wait_for()

    # Why? By the keyboard, which stays where it was; then another label, and another picture beside it.
    before = page.locator(".zs-card img").first.get_attribute("src")
    page.locator(".zs-why").first.focus()
    page.keyboard.press("Enter")
    visitor.wait_for("What speaks for cat:")
    heat = page.locator(".zs-card img").first
    assert heat.get_attribute("alt") == "cat.jpg: what speaks for cat"
    assert heat.get_attribute("src") != before
    page.wait_for_function("document.activeElement.textContent === 'Hide'")
    page.locator(".zs-pick", has_text="dog").click()
    visitor.wait_for("What speaks for dog:")
    page.locator(".zs-why").nth(1).click()
    page.wait_for_function("document.querySelectorAll('.zs-map').length === 2")
    page.locator("#python", has_text='clf.explain("cat.jpg", "dog").overlay().save("cat.why.png")').wait_for()

    # What was copied really runs, and gives the numbers of the table, and the maps.
    page.click("#python button")
    page.wait_for_function("navigator.clipboard.readText().then(text => text.includes('import zeroshot'))")
    copied = page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.click("#table a")
    table = tmp_path / "table.csv"
    download.value.save_as(table)
    assert download.value.suggested_filename == "scores.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    shown = [{row[f"label_{rank}"]: float(row[f"score_{rank}"]) for rank in range(1, 11)} for row in rows]
    for name in NAMES:
        shutil.copy(IMAGES / f"{name}.jpg", tmp_path)
    copied += "\nimport json\nprint('#', json.dumps([clf.labels, clf.predict_proba(images).tolist()]))\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(zeroshot.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", copied], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    labels, expected = json.loads(done.stdout.rpartition("#")[2])
    found = [[row[label] for label in labels] for row in shown]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert [row["source"] for row in rows] == [f"{name}.jpg" for name in NAMES]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["cat.why.png", "rocket.why.png"]
    page.locator(".zs-why", has_text="Hide").first.click()
    page.wait_for_function("document.querySelectorAll('.zs-map').length === 1")
    assert page.locator(".zs-card img").first.get_attribute("src") == before

    # A model that cannot be had says so, and the page goes on with the next.
    page.fill("#model input", "ViT-B-32/openai")
    page.keyboard.press("Enter")
    visitor.wait_for("could not be fetched from")
    page.fill("#model input", "mini")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#status').textContent.includes('3 pictures')")

    # None of these.
    visitor.fill("labels", "boat\nhorse")
    page.wait_for_function("document.querySelectorAll('.zs-map').length === 0")  # it was of other labels
    visitor.fill("templates", "a photo of a {}.")
    page.click("#more > button")
    visitor.fill("background", "cat\nrocket\ncup of coffee")
    page.wait_for_function("document.querySelectorAll('.zs-label')[2].textContent === '(none of these)'")
    assert visitor.labels() == ["(none of these)"] * 3

    # What the slider would not take, typed beside it.
    page.fill("#threshold input[type=number]", "7")
    visitor.wait_for("threshold is 7; expected a probability, 0 to 1.")
    page.fill("#threshold input[type=number]", "")
    page.wait_for_function("document.querySelector('#status').textContent.includes('3 pictures')")

    # A label that is cut: told on the page, and no warning to the terminal.
    visitor.fill("labels", "cat\n" + "very " * 60 + "long")
    visitor.wait_for("1 prompt is longer than the 40 tokens that the model reads")

    assert visitor.outside == []
    assert len(visitor.asked) > 20  # the record does see requests
    assert server.complaints == []


def test_the_record_of_requests_sees_what_goes_out(visit: Any) -> None:
    visitor = visit()
    visitor.page.evaluate("fetch('https://fonts.example.org/font.css').catch(() => null)")
    assert visitor.outside == ["https://fonts.example.org/font.css"]


GIVE = """([name, kind, base64]) => {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, {type: "image/jpeg"}));
  const options = {bubbles: true, cancelable: true};
  document.body.dispatchEvent(kind === "paste"
    ? new ClipboardEvent("paste", {...options, clipboardData: files})
    : new DragEvent("drop", {...options, dataTransfer: files}));
}"""


def test_pasting_and_dropping_anywhere_adds(visit: Any) -> None:
    visitor = visit()
    for count, (name, kind) in enumerate([("cat", "paste"), ("rocket", "drop"), ("coffee", "paste")], 1):
        content = base64.b64encode((IMAGES / f"{name}.jpg").read_bytes()).decode()
        visitor.page.evaluate(GIVE, [f"{name}.jpg", kind, content])
        visitor.wait_for_cards(count)
    assert visitor.labels() == list(LABELS)
    assert visitor.outside == []


def test_too_many_are_told(visit: Any) -> None:
    visitor = visit()
    visitor.drop("cat", "clock", "coffee", "rocket")
    visitor.page.set_input_files("#pictures input[type=file]", [IMAGES / "cat.jpg", IMAGES / "rocket.jpg"])
    visitor.wait_for("1 more were left out: the page takes 5.")
    assert visitor.page.locator(".zs-card").count() == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_light_and_dark_wide_and_narrow(visit: Any, width: int, scheme: str, tmp_path: Path) -> None:
    visitor = visit(width, scheme)
    visitor.fill("labels", "cat\nrocket\ncup of coffee\n" + "a label that is as long as labels of people become " * 2)
    visitor.drop(*NAMES)
    page = visitor.page
    page.locator(".zs-why").first.click()
    visitor.wait_for("What speaks for cat:")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page_texts = "document.querySelectorAll('.zs-row span, .zs-label, .zs-name, .zs-pick, .zs-map')"
    assert page.evaluate(f"[...{page_texts}].filter(text => text.scrollWidth > text.clientWidth + 1).length") == 0
    # Ink on paper: at least the 4.5 to 1 that WCAG 2.2 asks for (1.4.3).
    texts = (".zs-label", ".zs-name", ".zs-row span", ".zs-why", ".zs-pick", ".zs-map", ".zs-map .zs-name")
    for selector in (*texts, "#table a", "#status .zs-status"):
        ink, paper = page.eval_on_selector(selector, COLOURS)
        assert contrast(ink, paper) >= 4.5, (selector, ink, paper)
    page.screenshot(path=os.environ.get("ZEROSHOT_SHOTS", str(tmp_path)) + f"/{scheme}-{width}.png", full_page=True)


COLOURS = """element => {
  let paper = element;
  const colour = e => getComputedStyle(e).backgroundColor;
  while (paper.parentElement && /, 0\\)$|transparent/.test(colour(paper))) paper = paper.parentElement;
  return [getComputedStyle(element).color, colour(paper)];
}"""


def contrast(ink: str, paper: str) -> float:
    def luminance(colour: str) -> float:
        assert colour.startswith("rgb"), colour
        values = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, bright = sorted([luminance(ink), luminance(paper)])
    return (bright + 0.05) / (dark + 0.05)
