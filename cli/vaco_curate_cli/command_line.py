"""The command that is being run: as it was typed, with what variables add to it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click
from click.core import ParameterSource

ARGUMENTS, PREFIX = "vaco_curate.arguments", "VACO_CURATE"
"""Name in the context's ``meta`` of what was typed; and what variables begin with."""

ON = ("1", "true", "t", "yes", "y", "on")
"""Values of a variable that click takes for a given flag."""


def effective_command(*more: str) -> str:
    """What runs the current command again without its variables, with some options more."""
    context = click.get_current_context()
    typed = list(context.meta.get(ARGUMENTS, [context.info_name]))
    added = [*_from_variables(context), *(option for option in more if option not in typed)]
    at = typed.index("--") if "--" in typed else len(typed)  # what follows it is no option
    return shlex.join(["vaco-curate", *typed[:at], *dict.fromkeys(added), *typed[at:]])


def _from_variables(context: click.Context) -> Iterator[str]:
    """Options that variables give."""
    for option in context.command.get_params(context):
        given = context.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
        if not given or not isinstance(option, click.Option):
            continue
        name = max(option.opts, key=len)
        if option.is_flag:
            yield from [name] * bool(context.params[option.name or ""])
            continue
        value: Any = option.value_from_envvar(context)
        for one in value if option.multiple else [value]:
            yield f"{name}={one}"


def variable_of(option: click.Parameter, context: click.Context) -> str:
    """The variable of an option's name: ``VACO_CURATE_FILTER_IF_EXISTS`` for ``filter --if-exists``."""
    name = max(option.opts, key=len).removeprefix("--").replace("-", "_").upper()
    return f"{context.auto_envvar_prefix}_{name}"


def unknown_variables(context: click.Context) -> list[str]:
    """Variables of the command's prefix that are none of its options."""
    known = {variable_of(option, context) for option in context.command.get_params(context)}
    return sorted(
        name for name in os.environ if name.startswith(f"{context.auto_envvar_prefix}_") and name not in known
    )


def asked_for(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option where the command line could not be parsed; "1" for a flag, None for neither."""
    for number, word in enumerate(arguments):
        if word == f"--{option}":
            return "1" if option == "json" else next(iter(arguments[number + 1 :]), None)
        if word.startswith(f"--{option}="):
            return word.partition("=")[2]
    name = f"{PREFIX}_{named(arguments)}_{option}".replace("-", "_").upper()
    value = os.environ.get(name) or None
    if option == "json" and value is not None:
        return "1" if value.strip().lower() in ON else None
    return value


def named(arguments: Sequence[str]) -> str:
    """The command of a command line, or what stands in its place."""
    return next((word for word in arguments if not word.startswith("-")), "")
