"""The page of ``zeroshot app``: composition only. What it does is in `zeroshot.workbench`; Gradio, an extra, shows it.

The page is for the machine that it runs on. It binds to a loopback address, loads nothing from elsewhere (system fonts,
Gradio's own scripts from its package), reports nothing to anybody, and offers no interface to programs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import html
import importlib
import ipaddress
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from zeroshot.errors import MissingExtraError, OptionError, ZeroShotError
from zeroshot.prediction import DEFAULT_TOP_K, NONE, Outcome
from zeroshot.prompts import available_prompts
from zeroshot.registry import MINI, available_models
from zeroshot.workbench import (
    DEFAULT_PROMPTS,
    Limits,
    Picture,
    Progress,
    Question,
    Scores,
    Workbench,
    shipped_set,
    write_labels,
)

ValueT = TypeVar("ValueT")
LOOPBACK = "127.0.0.1"
_FIRST_LABELS = "cat\ndog\ncar"
_FIRST_PORT, _PORTS = 7860, 100
_KEPT_SECONDS = 24 * 3600  # uploads of a page that is left open; those of a closed server go with it
_EMPTY = "Drop pictures anywhere on this page, paste them, or choose them above."

_STYLE = """
.gradio-container { --zs-bar: #2f6fdb; --zs-line: var(--border-color-primary); max-width: 1180px !important;
  margin: 0 auto !important; }
#status, #results, #table { padding: 0 !important; } #table { margin: 0; }
.dark .gradio-container, .dark.gradio-container { --zs-bar: #4f8dff; }
.zs-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(260px, 100%), 1fr)); gap: 14px; }
.zs-card { border: 1px solid var(--zs-line); border-radius: 10px; overflow: hidden; margin: 0;
  background: var(--block-background-fill); color: var(--body-text-color); display: flex; flex-direction: column; }
.zs-card img { width: 100%; height: 180px; object-fit: contain; background: rgb(128 128 128 / .14); display: block; }
.zs-card figcaption { padding: 10px 12px 12px; font-size: 14px; line-height: 1.4; }
.zs-name { color: var(--body-text-color-subdued); font-size: 12.5px; overflow-wrap: anywhere; }
.zs-label { font-size: 17px; font-weight: 650; margin: 2px 0 8px; overflow-wrap: anywhere; }
.zs-row { display: grid; grid-template-columns: 1fr auto; column-gap: 10px; margin-top: 6px; }
.zs-row span { overflow-wrap: anywhere; } .zs-row b { font-weight: 500; font-variant-numeric: tabular-nums; }
.zs-track { grid-column: 1 / -1; height: 7px; border-radius: 4px; background: rgb(128 128 128 / .2); }
.zs-track i { display: block; height: 100%; border-radius: 4px; background: var(--zs-bar); min-width: 2px; }
.zs-status { padding: 10px 14px; border: 1px solid var(--zs-line); border-radius: 10px; font-size: 14px;
  overflow-wrap: anywhere; color: var(--body-text-color); background: var(--block-background-fill); }
.zs-error { border-color: #c33; border-left-width: 5px; }
.zs-table { display: inline-block; padding: 8px 16px; border-radius: 8px; font-size: 14px; text-decoration: none;
  border: 1px solid var(--zs-line); background: var(--button-secondary-background-fill); margin: 0;
  color: var(--button-secondary-text-color) !important; }
body:has(.zs-error, .zs-waiting) .zs-old { opacity: .45; }
"""
# Files that are pasted, or dropped beside the field for them, go into it.
_SCRIPT = """<script>
(() => {
  const give = files => {
    const field = document.querySelector("#pictures input[type=file]");
    const pictures = [...files].filter(file => file.type.startsWith("image/"));
    if (!field || !pictures.length) return false;
    const all = new DataTransfer();
    pictures.forEach((file, i) => all.items.add(file));
    field.files = all.files;
    field.dispatchEvent(new Event("change", {bubbles: true}));
    return true;
  };
  document.addEventListener("paste", event => {
    if (event.clipboardData && give(event.clipboardData.files)) { event.preventDefault(); event.stopPropagation(); }
  }, true);
  document.addEventListener("dragover", event => event.preventDefault());
  document.addEventListener("drop", event => {
    if (event.dataTransfer && give(event.dataTransfer.files)) { event.preventDefault(); event.stopPropagation(); }
  }, true);
})();
</script>"""


def build_app(
    *,
    model: str = MINI,
    prompts: str = DEFAULT_PROMPTS,
    labels: str = _FIRST_LABELS,
    device: str | None = None,
    limits: Limits | None = None,
) -> Any:
    """Make the page; `launch_app` shows it.

    Parameters
    ----------
    model : str
        What is chosen at the beginning, as `zeroshot.load` takes it. Any other can be chosen on the page.
    prompts : str
        Name of a shipped prompt set, or ``"default"``.
    labels : str
        What stands in the field for labels, one a line.
    device : str, optional
        As for `zeroshot.load`.
    limits : Limits, optional
        How much the page takes.

    Returns
    -------
    gradio.Blocks

    Raises
    ------
    MissingExtraError
        If Gradio is not installed.
    PromptError
        If there is no such prompt set.
    """
    gr = _import_gradio()
    bench = Workbench(device=device, limits=limits)
    shipped_set(prompts)  # that there is one, before anything is built
    with _environment_kept():
        # Gradio would sum up after each event how long it took, for the monitoring that is switched off, in a way that
        # pandas warns of.
        os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(sys.maxsize)
        return _in_a_loop(lambda: _build_page(gr, bench, model, prompts, labels))


def _build_page(gr: Any, bench: Workbench, model: str, prompts: str, labels: str) -> Any:
    first = shipped_set(prompts)

    def score(files: list[str] | None, *fields: Any) -> Iterator[tuple[Any, ...]]:
        waiting = gr.skip()
        for status, results, table, python in answer(bench, files or [], Question(*fields)):
            yield status, *(waiting if part is None else part for part in (results, table, python))

    def choose_prompts(name: str) -> tuple[str, Any]:
        chosen = shipped_set(name)
        return "\n".join(chosen.templates), gr.update(interactive=bool(chosen.classes))

    with gr.Blocks(analytics_enabled=False, title="zeroshot", delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)) as page:
        gr.Markdown("## zeroshot\nName the classes, add pictures. Everything stays on this machine.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                pictures = gr.File(
                    label=f"Pictures: at most {bench.limits.pictures}, of {bench.limits.megabytes} MB",
                    file_count="multiple",
                    height=170,
                    elem_id="pictures",
                )
                names = gr.Textbox(
                    labels,
                    label="Labels, one a line",
                    info="With synonyms: cat = cat, kitten, tabby",
                    lines=5,
                    max_lines=14,
                    elem_id="labels",
                )
                with gr.Row(equal_height=True):
                    chosen_prompts = gr.Dropdown(
                        [DEFAULT_PROMPTS, *available_prompts()],
                        value=prompts,
                        label="Prompt set",
                        elem_id="prompts",
                        min_width=140,
                    )
                    classes = gr.Button(
                        "Take its classes", interactive=bool(first.classes), elem_id="classes", min_width=120
                    )
                templates = gr.Textbox(
                    "\n".join(first.templates),
                    label="Templates, one a line",
                    info="{} is where the label goes; scores follow what is typed.",
                    lines=2,
                    max_lines=8,
                    elem_id="templates",
                )
                chosen_model = gr.Dropdown(
                    [entry.name for entry in available_models()],
                    value=model,
                    allow_custom_value=True,
                    label="Model",
                    info="mini is bundled. Another is taken from this machine, or else fetched from the Hugging Face "
                    "hub; a folder or hf-hub:owner/name can be typed.",
                    elem_id="model",
                )
                with gr.Accordion("None of these, several of these", open=False, elem_id="more"):
                    background = gr.Textbox(
                        "",
                        label="None of these, one a line",
                        info="Names of what is none of the labels, such as: something else",
                        lines=1,
                        max_lines=6,
                        elem_id="background",
                    )
                    threshold = gr.Slider(0, 1, 0, step=0.01, label="No label below", elem_id="threshold")
                    multi_label = gr.Checkbox(
                        False,
                        label="Each label by itself",
                        info="For models that were trained with a sigmoid, such as SigLIP.",
                        elem_id="multi-label",
                    )
            with gr.Column(scale=3, min_width=300):
                status = gr.HTML(_status(_EMPTY), elem_id="status")
                results = gr.HTML("", elem_id="results")
                table = gr.HTML("", elem_id="table")
                python = gr.Code(
                    "",
                    language="python",
                    label="The same in Python",
                    interactive=False,
                    wrap_lines=True,
                    show_line_numbers=False,
                    visible=False,
                    elem_id="python",
                    buttons=["copy"],
                )
        fields = [names, chosen_model, chosen_prompts, templates, background, threshold, multi_label]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        gr.on(
            [page.load, pictures.change, *(field.change for field in fields)],
            score,
            [pictures, *fields],
            [status, results, table, python],
            trigger_mode="always_last",
            concurrency_limit=1,
            **private,
        )
        chosen_prompts.input(choose_prompts, chosen_prompts, [templates, classes], **private)
        classes.click(lambda name: write_labels(shipped_set(name)), chosen_prompts, names, **private)
    return page


def launch_app(
    page: Any,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    limits: Limits | None = None,
    open_browser: bool = False,
    block: bool = True,
) -> str:
    """Serve a page that `build_app` made, and nobody else's.

    Parameters
    ----------
    page : gradio.Blocks
    host : str
        Address to listen on. Whoever can reach it can use the page: there is no password.
    port : int, optional
        By default the first one from 7860 on that is free.
    limits : Limits, optional
        Those of the page.
    open_browser : bool
        Show the page in the browser.
    block : bool
        Return only when the server is stopped, by Ctrl+C.

    Returns
    -------
    str
        Address of the page.

    Raises
    ------
    OptionError
        If the port, or each of those that were tried, is taken.
    """
    gr = _import_gradio()
    middleware = []
    if host in (LOOPBACK, "localhost"):
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        # A site whose name was made to point to this machine is another host, and sees nothing.
        middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])]
    with _environment_kept():
        try:
            _, address, _ = _in_a_loop(
                lambda: page.launch(
                    server_name=host,
                    server_port=port,
                    inbrowser=open_browser,
                    prevent_thread_lock=True,
                    quiet=True,
                    # Nothing for other machines or programs, whatever GRADIO_… says in the environment.
                    share=False,
                    mcp_server=False,
                    ssr_mode=False,
                    pwa=False,
                    enable_monitoring=False,
                    run_history=False,
                    footer_links=[],
                    root_path="",
                    strict_cors=True,
                    max_file_size=(limits or Limits()).megabytes << 20,
                    app_kwargs={"middleware": middleware},
                    theme=_theme(gr),
                    css=_STYLE,
                    head=_SCRIPT,
                )
            )
        except OSError as error:
            ports = f"port {port}" if port else f"each port from {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1}"
            raise OptionError(f"{ports} of {host} cannot be had: {error}; name another one with --port") from error
    if block:
        page.block_thread()
    return str(address)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answer(
    bench: Workbench, files: Sequence[str], question: Question
) -> Iterator[tuple[str, str | None, str | None, Any]]:
    """Yield what the page shows in four places: status, pictures with bars, link to the table, Python.

    None leaves a place as it is. What is wrong becomes a status, with the message of the library.
    """
    gr = _import_gradio()
    try:
        for step in bench.answer(files, question):
            if isinstance(step, Progress):
                yield _status(step.text, "zs-waiting"), None, None, None
            elif not files:
                yield _status(_EMPTY), "", "", gr.update(value="", visible=False)
            else:
                yield _summary(step), _cards(step), _table(step), gr.update(value=step.python, visible=True)
    except ZeroShotError as error:
        old = " The scores below are those before this change." if files else ""
        yield _status(f"{error}.{old}" if old else str(error), "zs-error"), None, None, None


def _import_gradio() -> Any:
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise MissingExtraError("the page needs gradio: pip install 'zeroshot-clip[app]'") from error


def _theme(gr: Any) -> Any:
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    # Gradio's own grey of what stands beside is too light to be read on white.
    soft, soft_dark = "*neutral_600", "*neutral_400"
    return gr.themes.Default(**fonts).set(
        body_text_color_subdued=soft,
        body_text_color_subdued_dark=soft_dark,
        block_info_text_color=soft,
        block_info_text_color_dark=soft_dark,
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
    )


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what Gradio writes into the environment of this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _in_a_loop(make: Callable[[], ValueT]) -> ValueT:
    """Call a function while an event loop runs: without one Gradio makes one for each lock, and closes none of them."""

    async def made() -> ValueT:
        return make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Not `asyncio.run`, which would keep Ctrl+C to itself.
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            return loop.run_until_complete(made())
    return make()  # in the loop of a notebook


def _status(text: str, kind: str = "") -> str:
    return f'<div class="zs-status {kind}" role="status">{html.escape(text)}</div>'


def _summary(scores: Scores) -> str:
    count = len(scores.outcomes)
    failed = sum(outcome.error is not None for outcome in scores.outcomes)
    text = f"{count} picture{'s' * (count != 1)}, {len(scores.labels)} label{'s' * (len(scores.labels) != 1)}."
    if failed:
        text += f" {failed} could not be read."
    if scores.left_out:
        text += (
            f" {scores.left_out} more were left out: the page takes {count}. "
            "The command 'zeroshot classify' takes any number."
        )
    return _status(text, "zs-error" if scores.left_out else "")


def _cards(scores: Scores) -> str:
    cards = map(_card, scores.pictures, scores.outcomes)
    return f'<div class="zs-cards zs-old">{"".join(cards)}</div>'


def _card(picture: Picture, outcome: Outcome) -> str:
    name = html.escape(str(outcome.source))
    prediction = outcome.prediction
    if prediction is None:
        return (
            f'<figure class="zs-card"><figcaption><div class="zs-name">{name}</div>'
            f'<div class="zs-status zs-error">{html.escape(str(outcome.error))}</div></figcaption></figure>'
        )
    if prediction.multi_label:
        label = ", ".join(match.label for match in prediction.above()[:DEFAULT_TOP_K]) or NONE
    else:
        label = prediction.label or NONE
    rows = [(match.label, match.score) for match in prediction.top(DEFAULT_TOP_K)]
    if prediction.background:
        rows.append((NONE, prediction.background))
    bars = "".join(
        f'<div class="zs-row"><span>{html.escape(text)}</span><b>{share:.1%}</b>'
        f'<div class="zs-track"><i style="width:{share:.2%}"></i></div></div>'
        for text, share in rows
    )
    jpeg = base64.b64encode(picture.jpeg).decode()
    return (
        f'<figure class="zs-card"><img alt="{name}" src="data:image/jpeg;base64,{jpeg}"><figcaption>'
        f'<div class="zs-name">{name} · {picture.width} × {picture.height}</div>'
        f'<div class="zs-label">{html.escape(label)}</div>{bars}</figcaption></figure>'
    )


def _table(scores: Scores) -> str:
    content = base64.b64encode(scores.csv()).decode()
    return (
        f'<a class="zs-table zs-old" download="scores.csv" href="data:text/csv;charset=utf-8;base64,{content}">'
        "Download the table (CSV)</a>"
    )
