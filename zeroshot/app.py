"""The page of ``zeroshot app``: composition only. What it does is in `zeroshot.workbench`; Gradio, an extra, shows it.

The page is for the machine that it runs on. It binds to a loopback address, loads nothing from elsewhere (system fonts,
Gradio's own scripts from its package), reports nothing to anybody, and offers no interface to programs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import html
import importlib
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from zeroshot.errors import MissingExtraError, OptionError, ZeroShotError
from zeroshot.explain import colour
from zeroshot.prediction import DEFAULT_TOP_K, NONE, Match, Outcome
from zeroshot.prompts import available_prompts
from zeroshot.registry import MINI, available_models
from zeroshot.workbench import (
    DEFAULT_PROMPTS,
    HeatMap,
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
.zs-head { display: flex; gap: 10px; justify-content: space-between; align-items: flex-start; margin: 2px 0 8px; }
.zs-label { font-size: 17px; font-weight: 650; overflow-wrap: anywhere; min-width: 0; }
.zs-card button { font: inherit; cursor: pointer; border: 1px solid var(--zs-line); color: inherit; }
.zs-card .zs-why { flex: none; padding: 1px 12px; border-radius: 12px; color: var(--button-secondary-text-color);
  background: var(--button-secondary-background-fill); }
.zs-card .zs-pick { text-align: left; overflow-wrap: anywhere; padding: 0 7px; margin: 0 0 3px -8px; border-radius: 6px;
  background: none; justify-self: start; max-width: 100%; }
.zs-card button:hover, .zs-card .zs-pick[aria-pressed=true] { border-color: var(--zs-bar); }
.zs-card .zs-pick[aria-pressed=true] { box-shadow: inset 0 0 0 1px var(--zs-bar); }
.zs-card button:focus-visible { outline: 2px solid var(--zs-bar); outline-offset: 2px; }
.zs-map { margin-bottom: 8px; font-size: 12.5px; overflow-wrap: anywhere; }
.zs-map i { display: inline-block; width: 72px; height: 9px; border-radius: 2px; margin: 0 5px;
  background: linear-gradient(to right, COLOURS); }
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
body:has(#status .zs-error, #status .zs-waiting) .zs-old { opacity: .45; }
""".replace("COLOURS", ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in colour(np.linspace(0, 1, 9))))
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
# A press of a button on a card goes to the server; when the cards are drawn anew the keyboard stays where it was.
_ON_CARDS = """
let pressed = null;
element.addEventListener("click", event => {
  const button = event.target.closest("button[data-key]");
  if (!button) return;
  pressed = button.dataset.key;
  trigger("click", {picture: Number(button.dataset.picture), label: Number(button.dataset.label)});
});
new MutationObserver(() => {
  if (pressed === null || document.activeElement !== document.body) return;
  const again = element.querySelector(`button[data-key="${pressed}"]`);
  if (again) again.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});
"""


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

    def score(files: list[str] | None, *fields: Any, why: Mapping[int, int] | None = None) -> Iterator[tuple[Any, ...]]:
        waiting = gr.skip()
        for status, results, table, python in answer(bench, files or [], Question(*fields), why):
            yield why or {}, status, *(waiting if part is None else part for part in (results, table, python))

    def explain(event: Any, explained: dict[int, int], *fields: Any) -> Iterator[tuple[Any, ...]]:
        yield from score(*fields, why=toggle(explained, int(event.picture), int(event.label)))

    explain.__annotations__["event"] = gr.EventData  # by which Gradio knows that it is to give one

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
                explained = gr.State({})
                results = gr.HTML("", elem_id="results", js_on_load=_ON_CARDS)
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
        shown = [explained, status, results, table, python]
        # What is typed beside the slider may be out of its range, or nothing: the library has words for that.
        threshold.preprocess = lambda value: value or 0.0
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        gr.on(
            [page.load, pictures.change, *(field.change for field in fields)],
            score,
            [pictures, *fields],
            shown,
            trigger_mode="always_last",
            concurrency_limit=1,
            **private,
        )
        asked = [explained, pictures, *fields]
        results.click(explain, asked, shown, trigger_mode="multiple", concurrency_limit=1, **private)
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
        If the port, or each of those that were tried, is taken, or the address is not of this machine.
    """
    gr = _import_gradio()
    port = _free_port(host, port)
    middleware = []
    named = f"[{host}]" if ":" in host else host  # as in an address of a page
    if is_loopback(host):
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        # A site whose name was made to point to this machine is another host, and sees nothing.
        middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost", named])]
    with _environment_kept():
        _, address, _ = _in_a_loop(
            lambda: page.launch(
                server_name=named,
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


def toggle(explained: Mapping[int, int], picture: int, label: int) -> dict[int, int]:
    """Return which label of which picture is explained, after a button was pressed: again on the same one hides it.

    >>> toggle({0: 2}, 1, 3), toggle({0: 2}, 0, 3), toggle({0: 2}, 0, 2)
    ({0: 2, 1: 3}, {0: 3}, {})
    """
    if explained.get(picture) == label:
        return {place: index for place, index in explained.items() if place != picture}
    return {**explained, picture: label}


def answer(
    bench: Workbench, files: Sequence[str], question: Question, why: Mapping[int, int] | None = None
) -> Iterator[tuple[str, str | None, str | None, Any]]:
    """Yield what the page shows in four places: status, pictures with bars, link to the table, Python.

    None leaves a place as it is. What is wrong becomes a status, with the message of the library. `why` is as for
    `Workbench.answer`.
    """
    gr = _import_gradio()
    try:
        for step in bench.answer(files, question, why):
            if isinstance(step, Progress):
                yield _status(step.text, "zs-waiting"), None, None, None
            elif not files:
                yield _status(_EMPTY), "", "", gr.update(value="", visible=False)
            else:
                yield _summary(step), _cards(step), _table(step), gr.update(value=step.python, visible=True)
    except ZeroShotError as error:
        text = str(error).rstrip(".") + "."
        if files:
            text += " The scores below are those before this change."
        yield _status(text, "zs-error"), None, None, None


def _free_port(host: str, port: int | None) -> int:
    """Return a port that is free. Gradio looks too, but leaves a socket open for each that is not."""
    if port is not None and not 0 < port < 1 << 16:
        raise OptionError(f"port is {port}; expected one from 1 to 65535")
    ports = [port] if port else range(_FIRST_PORT, _FIRST_PORT + _PORTS)
    for candidate in ports:
        try:
            for address in (LOOPBACK, host):  # Gradio tries the first, whatever it is to listen on
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                socket.create_server((address, candidate), family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise OptionError(
                f"nothing can listen on port {candidate} of {host}: {error.strerror or error}; expected an address of "
                "this machine as --host, and a --port that you may use"
            ) from error
        return candidate
    taken = f"port {port}" if port else f"each port from {ports[0]} to {ports[-1]}"
    raise OptionError(f"{taken} of {host} is taken; name another one with --port")


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
    return _status(" ".join([text, *scores.notes]), "zs-error" if scores.left_out else "")


def _cards(scores: Scores) -> str:
    cards = [
        _card(place, picture, outcome, scores.maps.get(place))
        for place, (picture, outcome) in enumerate(zip(scores.pictures, scores.outcomes, strict=True))
    ]
    return f'<div class="zs-cards zs-old">{"".join(cards)}</div>'


def _card(place: int, picture: Picture, outcome: Outcome, heat: HeatMap | None) -> str:
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
    top = prediction.top(DEFAULT_TOP_K)
    # While one label is explained the others can be chosen; before, that would be a button for each bar.
    rows = [
        (_pick(place, match, heat) if heat and heat.jpeg else f"<span>{html.escape(match.label)}</span>", match.score)
        for match in top
    ]
    if prediction.background:
        rows.append((f"<span>{NONE}</span>", prediction.background))
    bars = "".join(
        f'<div class="zs-row">{text}<b>{share:.1%}</b>'
        f'<div class="zs-track"><i style="width:{share:.2%}"></i></div></div>'
        for text, share in rows
    )
    shown, alt = picture.jpeg, name
    if heat and heat.jpeg:
        shown, alt = heat.jpeg, f"{name}: what speaks for {html.escape(heat.label)}"
    return (
        f'<figure class="zs-card"><img alt="{alt}" src="data:image/jpeg;base64,{base64.b64encode(shown).decode()}">'
        f'<figcaption>{_legend(heat)}<div class="zs-name">{name} · {picture.width} × {picture.height}</div>'
        f'<div class="zs-head"><div class="zs-label">{html.escape(label)}</div>'
        f"{_why(place, top[0], name, heat)}</div>{bars}</figcaption></figure>"
    )


def _why(place: int, top: Match, name: str, heat: HeatMap | None) -> str:
    if heat is None:
        text, index, title = "Why?", top.index, f"What in {name} speaks for {html.escape(top.label)}"
    else:
        text, index, title = "Hide", heat.index, f"what speaks for {html.escape(heat.label)} in {name}"
    return (
        f'<button type="button" class="zs-why" data-key="{place}" data-picture="{place}" data-label="{index}" '
        f'title="{title}" aria-label="{text} {title}">{text}</button>'
    )


def _pick(place: int, match: Match, heat: HeatMap) -> str:
    return (
        f'<button type="button" class="zs-pick" data-key="{place}-{match.index}" data-picture="{place}" '
        f'data-label="{match.index}" aria-pressed="{str(match.index == heat.index).lower()}" '
        f'title="Show what speaks for {html.escape(match.label)}">{html.escape(match.label)}</button>'
    )


def _legend(heat: HeatMap | None) -> str:
    if heat is None:
        return ""
    if heat.error is not None:
        return f'<div class="zs-map zs-status zs-error" role="status">{html.escape(str(heat.error))}</div>'
    return (
        f'<div class="zs-map" role="status"><b>What speaks for {html.escape(heat.label)}:</b><br>little<i></i>much '
        f'<span class="zs-name" title="{html.escape(heat.citation)}">· {html.escape(heat.method)}</span></div>'
    )


def _table(scores: Scores) -> str:
    content = base64.b64encode(scores.csv()).decode()
    return (
        f'<a class="zs-table zs-old" download="scores.csv" href="data:text/csv;charset=utf-8;base64,{content}">'
        "Download the table (CSV)</a>"
    )
