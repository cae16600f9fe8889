r"""``zeroshot completions``: scripts for shells: commands, options, models, prompt sets and labels by tab.

The scripts are thin: on a tab they ask ``zeroshot completions SHELL --words WORD …`` what may stand in the place of the
last word, so that they never are older than the program. The answer is lines: first ``files`` if the name of a file may
stand there too, else ``words``; then ``value<tab>description``.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zeroshot
from zeroshot.cli.options import add_general
from zeroshot.cli.output import say
from zeroshot.errors import ZeroShotError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "[FILE.json]", "DIR", "IMAGE", "SOURCE", "DATA", "FOLDER", "PROMPTS", "MODEL", "SHIFT=…", "NAME=FILE")
_DEVICES = ("cpu", "cuda", "cuda:0", "cuda:1")

_BASH = r"""# zeroshot in bash:  eval "$(zeroshot completions bash)"  in ~/.bashrc
_zeroshot() {
    local line kind=""
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then kind=$line; else COMPREPLY+=("${line%%$'\t'*}"); fi
    done < <("$1" completions bash --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # Names of files are readline's own matter, where nothing else fits.
    if [[ $kind != files ]]; then compopt +o default +o bashdefault 2>/dev/null; fi
}
complete -o default -o bashdefault -F _zeroshot zeroshot
"""

_ZSH = r"""#compdef zeroshot
# zeroshot in zsh:  eval "$(zeroshot completions zsh)"  in ~/.zshrc behind compinit; or as the file _zeroshot in $fpath
_zeroshot() {
    local -a lines found
    local line
    lines=("${(@f)$("${words[1]}" completions zsh --words "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${(@)lines[2,-1]}"; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    (( $#found )) && _describe -V zeroshot found
    if [[ $lines[1] == files ]]; then _files; fi
}
if [[ $funcstack[1] == _zeroshot ]]; then _zeroshot "$@"; else compdef _zeroshot zeroshot; fi
"""

_FISH = r"""# zeroshot in fish:  zeroshot completions fish > ~/.config/fish/completions/zeroshot.fish
function __zeroshot_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l current (commandline -ct)
    set -l lines ($program completions fish --words $words "$current" 2>/dev/null)
    if test "$lines[1]" = files
        __fish_complete_path "$current"
    end
    set -e lines[1]
    string join \n -- $lines
end
complete -c zeroshot -f -k -a '(__zeroshot_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_parser(commands: Commands) -> None:
    """Add the command ``completions``."""
    parser = commands.add_parser(
        "completions",
        help="print the script by which bash, zsh or fish completes on a tab",
        usage="zeroshot completions {bash,zsh,fish}",
        description="Print the script by which a shell completes commands, options and their values.\n"
        "For this session:\n"
        '  bash, zsh   eval "$(zeroshot completions bash)"   (zsh: behind compinit)\n'
        "  fish        zeroshot completions fish | source\n"
        "For all: the same line in ~/.bashrc or ~/.zshrc; in fish\n"
        "  zeroshot completions fish > ~/.config/fish/completions/zeroshot.fish",
        examples=("zeroshot completions bash", "zeroshot completions zsh > _zeroshot"),
    )
    group = parser.add_argument_group("shell")
    group.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    add_general(parser, json=False)
    parser.set_defaults(run=_print_script)


def _print_script(arguments: argparse.Namespace) -> int:
    say(_SCRIPTS[arguments.shell].removesuffix("\n"))
    return 0


def answer(parser: argparse.ArgumentParser, shell: str, words: Sequence[str]) -> int:
    """Print what may stand in the place of the last of the words behind ``zeroshot``, for a script of ours."""
    if shell == "bash":
        words, quote = _unsplit(words)
    found, files = complete(parser, words or [""])
    say("files" if files else "words")
    for value, about in found:
        if shell == "bash" and not quote:
            value = re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
        about = " ".join(about.split())
        say(f"{value}\t{about}" if shell != "bash" else value)
    return 0


def complete(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[tuple[str, str]], bool]:
    """Return what may stand in the place of the last word, with what it is, and whether a file may.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the whole command line.
    words : sequence of str
        Behind the name of the program, the one that is being typed as the last.
    """
    *before, current = words
    place = _Place(parser)
    for word in before:
        place.take(word)
    option, mark, value = current.partition("=")
    if mark and (action := place.options.get(option)):
        found, files = _values(action, place)
        return [(f"{option}={each}", about) for each, about in _begin(found, value)], files
    if current.startswith("-"):
        named = [(name, action.help or "") for name, action in place.options.items() if name.startswith("--")]
        return _begin(named, current), False
    found, files = place.candidates()
    return _begin(found, current), files


@dataclass
class _Place:
    """Where in the command line we are, behind the words that are typed."""

    parser: argparse.ArgumentParser
    typed: dict[str, list[str]] = field(default_factory=dict)  # dest -> values
    option: argparse.Action | None = None  # the one whose values are being typed
    values: int = 0  # of it so far
    arguments: int = 0  # that are no options

    @property
    def options(self) -> dict[str, argparse.Action]:
        return self.parser._option_string_actions

    def take(self, word: str) -> None:
        """Go on by one word."""
        name, mark, value = word.partition("=")
        if word.startswith("-") and name in self.options:
            self.option, self.values = self.options[name], 0
            if mark:
                self._keep(self.option, value)
                self.option = None
        elif self.option is not None and self._wants_more():
            self._keep(self.option, word)
            self.values += 1
        elif (commands := self._commands()) is not None and word in commands.choices:
            self.parser, self.option, self.arguments = commands.choices[word], None, 0
        else:
            self.option = None
            if (action := self._argument()) is not None:
                self._keep(action, word)
            self.arguments += 1

    def candidates(self) -> tuple[list[tuple[str, str]], bool]:
        """Return what may come next, but for options, and whether a file may."""
        if self.option is not None and self._wants_more():
            return _values(self.option, self)
        if (commands := self._commands()) is not None:
            return [(action.dest, action.help or "") for action in commands._choices_actions], False
        action = self._argument()
        return ([], False) if action is None else _values(action, self)

    def _wants_more(self) -> bool:
        assert self.option is not None
        if self.option.dest == "json":
            return False  # its file is the exception; an image or a folder follows
        most = {None: 1, "?": 1, 0: 0}.get(self.option.nargs)
        return most is None or self.values < most

    def _keep(self, action: argparse.Action, word: str) -> None:
        self.typed.setdefault(action.dest, []).append(word)

    def _commands(self) -> argparse._SubParsersAction[argparse.ArgumentParser] | None:
        actions = self.parser._actions
        return next((action for action in actions if isinstance(action, argparse._SubParsersAction)), None)

    def _argument(self) -> argparse.Action | None:
        """Return the argument that is no option whose turn it is; the last one if it takes several."""
        actions = [action for action in self.parser._actions if not action.option_strings]
        if self.arguments < len(actions):
            return actions[self.arguments]
        return actions[-1] if actions and actions[-1].nargs in ("+", "*") else None


def _values(action: argparse.Action, place: _Place) -> tuple[list[tuple[str, str]], bool]:
    """Return the values that an option or argument may have, and whether names of files are among them."""
    kind = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices is not None:
        return [(str(choice), "") for choice in action.choices], False
    return list(_known(kind, place)), kind in _FILES


def _known(kind: str, place: _Place) -> Iterator[tuple[str, str]]:
    if kind in ("MODEL", "PATTERN"):
        for entry in zeroshot.available_models():
            yield entry.name, f"{entry.parameters_million:.0f} M parameters"
    elif kind == "PROMPTS":
        for name in zeroshot.available_prompts():
            yield name, zeroshot.load_prompts(name).title
    elif kind == "SET":
        from zeroshot.drawings import LIMITS

        yield from ((name, limit.asks) for name, limit in LIMITS.items())
    elif kind == "KIND":
        from zeroshot.corruptions import CORRUPTIONS

        yield from ((name, corruption.what) for name, corruption in CORRUPTIONS.items())
    elif kind == "DEVICE":
        yield from ((device, "") for device in _DEVICES)
    elif kind == "LABEL":
        for name in place.typed.get("prompts", []) + place.typed.get("name", []):
            try:
                prompts = zeroshot.load_prompts(name)
            except ZeroShotError:  # a template, or not there
                continue
            yield from ((label, "") for label in dict.fromkeys(prompts.classes))


def _begin(found: Sequence[tuple[str, str]], start: str) -> list[tuple[str, str]]:
    """Return what begins with what is typed, whatever the case if nothing does exactly."""
    exact = [each for each in found if each[0].startswith(start)]
    return exact or [each for each in found if each[0].lower().startswith(start.lower())]


def _unsplit(words: Sequence[str]) -> tuple[list[str], bool]:
    """Return words of bash without quotes, and whether the last one is in open ones.

    Bash cuts words at ``=``: behind an option that is nothing, since its value is the next word.
    """
    words = [word for at, word in enumerate(words) if word != "=" or at == len(words) - 1 or not at]
    if words and words[-1] == "=":
        words[-1] = ""
    quote = bool(words) and words[-1][:1] in ("'", '"')
    return [_unquoted(word) for word in words], quote


def _unquoted(word: str) -> str:
    try:
        return "".join(shlex.split(word))
    except ValueError:  # a quote that is still open
        return word.lstrip("'\"")
