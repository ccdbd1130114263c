"""The scripts for bash, zsh and fish."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from listener.cli.completion.words import Command, Flag, Value


def bash(commands: Sequence[Command]) -> str:
    """For bash 3.2 and newer. Where files are proposed, the reply stays empty, because readline's own
    completion of files (`-o default`) knows blanks and folders."""
    names = " ".join(one.name for one in commands)
    values = list(_bash_values(commands))
    flags = [f"        {one.name}) words={shlex.quote(_bash_words(one))} ;;" for one in commands]
    return _BASH.format(
        names=names, pattern="|".join(names.split()), values=_joined(values), flags=_joined(flags)
    )


_BASH: Final = """\
_smtp_relay() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=serve word words=
    local -i at first=1
    # bash makes words of their own of the = of --flag=value.
    if [[ $current == = ]]; then
        current=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${{COMP_WORDS[at]}}
        case $word in {pattern}) command=$word first=0; break ;; esac
    done
    case "$command $before" in
{values}
    esac
    case $command in
{flags}
    esac
    ((first)) && words="{names} $words"
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _smtp_relay smtp-relay
"""


def _bash_values(commands: Sequence[Command]) -> Iterator[str]:
    for one in commands:
        for flag in one.flags:
            if flag.value is None:
                continue
            pattern = "|".join(f'"{one.name} {name}"' for name in flag.names)
            if flag.value == "file":
                reply = "return"
            elif flag.value == "text":
                reply = "compopt +o default 2>/dev/null; return"
            else:
                reply = f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(flag.value))} -- "$current")); return'
            yield f"        {pattern}) {reply} ;;"


def _bash_words(command: Command) -> str:
    own = command.words if isinstance(command.words, tuple) else ()
    return " ".join((*own, *(name for flag in command.flags for name in flag.names)))


def zsh(commands: Sequence[Command]) -> str:
    """For a file `_smtp-relay` of `fpath`, or to be sourced after compinit."""
    listed = [f"        {shlex.quote(f'{_zsh_text(one.name)}:{one.help}')}" for one in commands]
    cases = [f"        {one.name}) _arguments -s -S {' '.join(_zsh_arguments(one))} ;;" for one in commands]
    serve = next(one for one in commands if one.name == "serve")
    return _ZSH.format(
        names=" ".join(one.name for one in commands),
        commands=_joined(listed),
        cases=_joined(cases),
        serve=" ".join(_zsh_arguments(serve, words="1:command or file:_smtp_relay_first")),
    )


_ZSH: Final = """\
#compdef smtp-relay
_smtp_relay_first() {{
    local -a commands
    commands=(
{commands}
    )
    _describe -t commands command commands
    _files
}}
_smtp_relay() {{
    local -i at
    for ((at = 2; at < CURRENT; at++)); do
        case $words[at] in
        -*) continue ;;
        esac
        [[ " {names} " == *" $words[at] "* ]] || continue
        local command=$words[at]
        words[at]=()
        (( CURRENT-- ))
        _smtp_relay_of $command
        return
    done
    _arguments -s -S {serve}
}}
_smtp_relay_of() {{
    case $1 in
{cases}
    esac
}}
if [[ $funcstack[1] == _smtp-relay ]]; then _smtp_relay "$@"; else compdef _smtp_relay smtp-relay; fi
"""


def _zsh_arguments(command: Command, words: str = "") -> Iterator[str]:
    for flag in command.flags:
        value = (
            ""
            if flag.value is None
            else f":{_zsh_text(flag.names[-1].lstrip('-'))}:{_zsh_action(flag.value)}"
        )
        for name in flag.names:
            # A flag may come again, because some are lists.
            equals = "=" if value and name.startswith("--") else ""
            yield shlex.quote(f"*{name}{equals}[{_zsh_text(flag.help or name)}]{value}")
    # A specification without values would hide the flags.
    if words or command.words != "text":
        yield shlex.quote(words or f"*:word:{_zsh_action(command.words)}")


def _zsh_action(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({' '.join(value)})"
    return "_files" if value == "file" else " "


def _zsh_text(text: str) -> str:
    """Text inside a specification of `_arguments`."""
    return "".join(f"\\{one}" if one in "\\[]:" else one for one in text)


def fish(commands: Sequence[Command]) -> str:
    """For fish 3."""
    names = " ".join(one.name for one in commands)
    none = f"not __fish_seen_subcommand_from {names}"
    lines = ["complete -c smtp-relay -f"]
    lines += [
        f"complete -c smtp-relay -n {shlex.quote(none)} -a {one.name} -d {_fish_text(one.help)}"
        for one in commands
    ]
    for one in commands:
        seen = f"__fish_seen_subcommand_from {one.name}"
        for condition in (none, seen) if one.name == "serve" else (seen,):
            lines += _fish_lines(one, f"complete -c smtp-relay -n {shlex.quote(condition)}")
    return "\n".join(lines) + "\n"


def _fish_lines(command: Command, start: str) -> Iterator[str]:
    for flag in command.flags:
        yield f"{start} {_fish_names(flag)}{_fish_value(flag.value)} -d {_fish_text(flag.help)}"
    if isinstance(command.words, tuple):
        yield f"{start} -a {_fish_text(' '.join(command.words))}"
    elif command.words == "file":
        yield f"{start} -F"


def _fish_names(flag: Flag) -> str:
    return " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)


def _fish_value(value: Value | None) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f" -x -a {_fish_text(' '.join(value))}"
    return " -r -F" if value == "file" else " -x"


def _fish_text(text: str) -> str:
    """A text between quotes, where fish reads a backslash and the quote itself."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_joined: Final = "\n".join

SHELLS: Final[Mapping[str, Callable[[Sequence[Command]], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""The script of each shell."""
