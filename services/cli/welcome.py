"""What a successful start tells."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from services.cli.datadir import DataDir, Runtime


def welcome(runtime: Runtime, data: DataDir) -> RenderableType:
    """URLs, the key, and what to try next."""
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("API", f"{runtime.api_url}/api/v1"),
        ("API key", runtime.api_key),
        ("Application", runtime.application_id),
        ("Sandbox", f"{runtime.sandbox_url}  (what the providers were given, live)"),
        ("Data", f"{data.path}  (runtime.json, logs)"),
    ):
        facts.add_row(f"[bold]{name}[/]", escape(value))
    where = "" if data.path.name == ".data" else f" --data-dir {data.path}"
    hints = Table.grid(padding=(0, 2))
    for command, meaning in (
        (f"automata send{where} --type iOSPush --token {'ab' * 4}… --title Hello", "register a device and send to it"),
        (f"automata tail{where}", "follow what happens to messages"),
        (f"automata status{where}", "processes and their health"),
    ):
        hints.add_row(escape(command), f"[dim]{meaning}[/]")
    return Group(Panel(facts, title="Automata Signal is ready", title_align="left"), hints)
