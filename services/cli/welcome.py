"""What a successful start tells."""

from rich.console import Console
from rich.markup import escape

from services.cli.datadir import DataDir, Runtime

_TOKEN = "ab" * 32
"""Any 64 hexadecimal digits are a device token to the sandbox."""


def welcome(console: Console, runtime: Runtime, data: DataDir) -> None:
    """URLs, the key, and what to try next; unwrapped, so that it can be copied."""
    facts = {
        "API": f"{runtime.api_url}/api/v1",
        "API key": runtime.api_key,
        "Application": runtime.application_id,
        "Sandbox": f"{runtime.sandbox_url}   (what the providers were given, live)",
        "Data": f"{data.path}   (runtime.json, logs)",
    }
    where = "" if data.path.name == ".data" else f" --data-dir {data.path}"
    hints = {
        f"automata send{where} --type iOSPush --title Hello --token {_TOKEN}": "register a device and send to it",
        f"automata tail{where}": "follow what happens to messages",
        f"automata status{where}": "processes and their health",
    }
    console.print("\n[bold green]Automata Signal is ready[/]")
    for name, value in facts.items():
        console.print(f"  [bold]{name:<12}[/] {escape(value)}", soft_wrap=True)
    console.print("[bold green]Next[/]")
    for command, meaning in hints.items():
        console.print(f"  {escape(command)}   [dim]# {meaning}[/]", soft_wrap=True)
