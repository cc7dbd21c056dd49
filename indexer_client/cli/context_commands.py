"""`indexer context` and `indexer completion`: nothing here calls the service."""

import dataclasses
import enum
from typing import Annotated, Any

import typer
from typer import completion

from indexer_client.cli import commands, contexts, output

COMPLETE = "_INDEXER_COMPLETE"
"""Variable by which the shell's script asks for completions."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the context.", show_default=False)]
context_app = typer.Typer(
    help=(
        "Keep how services are reached by name: addresses and paths of files, never tokens."
        "\n\nExample: indexer context use production"
    )
)


class Shell(enum.StrEnum):
    """Shells with a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(context_app, name="context")
    app.command(name="completion")(print_completion)


@context_app.command(name="set")
def set_context(context: typer.Context, name: Name) -> int:
    """
    Store the address and TLS options given before `context` under a name; what is not given stays as it was.

    The first context is used at once.

    Example: indexer --address indexer.example:50051 --token-file shop.token --tls context set production
    """
    session: commands.Session = context.obj
    stored = contexts.load()
    before = stored.known.get(name, contexts.Context())
    known = {**stored.known, name: dataclasses.replace(before, **session.given)}  # type: ignore[arg-type]  # by name
    current = stored.current or name
    contexts.save(contexts.Contexts(current, known))
    output.print_sentence(f"stored {name}: {known[name].address}{', in use' if current == name else ''}")
    return 0


@context_app.command(name="use")
def use_context(name: Name) -> int:
    """
    Use a context in all further commands.

    Example: indexer context use production
    """
    found = contexts.find(name)
    contexts.save(dataclasses.replace(contexts.load(), current=name))
    output.print_sentence(f"using {name}: {found.address}")
    return 0


@context_app.command(name="list")
def list_contexts(*, form: commands.Form = output.Form.TABLE) -> int:
    """
    List the stored contexts; a star marks the one in use.

    Example: indexer context list
    """
    stored = contexts.load()
    if form.structured:
        for name, each in stored.known.items():
            output.print_object({"name": name, "used": name == stored.current, **dataclasses.asdict(each)}, form)
        return 0
    output.print_table(
        ["~name", "used", "~address", "?tls", "?~token file"],
        [
            (
                name,
                "*" if name == stored.current else "",
                each.address,
                "yes" if each.secure else "no",
                each.token_file,
            )
            for name, each in stored.known.items()
        ],
        empty="no context is stored; make one with: indexer --address HOST:PORT context set NAME",
    )
    return 0


@context_app.command(name="delete")
def delete_context(name: Name) -> int:
    """
    Delete a context. The files that it names stay.

    Example: indexer context delete production
    """
    contexts.find(name)
    stored = contexts.load()
    known = {key: value for key, value in stored.known.items() if key != name}
    contexts.save(contexts.Contexts("" if stored.current == name else stored.current, known))
    output.print_sentence(f"deleted {name}")
    return 0


def print_completion(shell: Annotated[Shell, typer.Argument(show_default=False)]) -> int:
    """
    Print the completion script of a shell.

    Example: indexer completion bash > ~/.local/share/bash-completion/completions/indexer
    """
    make: Any = completion.get_completion_script  # type: ignore[attr-defined]  # missing in its exports
    script = make(prog_name="indexer", complete_var=COMPLETE, shell=shell.value)
    for line in script.splitlines():
        output.print_line(line)
    return 0
