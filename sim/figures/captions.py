"""What stands under a figure and on the page of a folder of figures: claim, panels, methods, and where the
numbers come from. Seeds, profile, cost and device are read from the table and from what made it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from sim.lab import files
from sim.lab.figure import Figure

RECORD = "tables.json"
"""Of a folder: how each table that computes its own numbers was made."""


@dataclass(frozen=True)
class Origin:
    """How numbers were made: the command, the profile, seconds in all, and on what (empty: not recorded)."""

    command: str
    profile: str
    seconds: float
    device: str
    options: str = ""
    """What of the command says how much is computed."""

    @property
    def cost(self) -> str:
        """ "425 s on 1 x NVIDIA H100", minutes from two of them on."""
        time = f"{self.seconds / 60:.0f} min" if self.seconds >= 120 else f"{self.seconds:.0f} s"
        return f"{time} on {self.device}" if self.device else time


def of_run(folder: Path) -> Origin:
    """Of the run in a folder, from its manifest; the command without where it wrote."""
    manifest = json.loads((folder / "manifest.json").read_text())
    config = manifest["config"]
    options = "--profile paper" if config["profile"] == "paper" else f"--seeds {config['seeds']}"
    command = f"python -m sim.sweep {config['experiment']} {options}"
    return Origin(command, config["profile"], manifest["seconds"], manifest["device"], options)


def recorded(folder: Path) -> dict[str, Origin]:
    """Of the tables in a folder of figures, by name; those of experiments are with their runs."""
    path = folder / RECORD
    entries = json.loads(path.read_text()) if path.exists() else {}
    return {name: Origin(**fields) for name, fields in entries.items()}


def record(folder: Path, name: str, origin: Origin) -> None:
    """Note how a table of a folder was made."""
    entries = recorded(folder) | {name: origin}
    text = json.dumps({key: asdict(entries[key]) for key in sorted(entries)}, indent=1)
    files.write_text(folder / RECORD, text + "\n")


def origins(item: Figure, folder: Path, runs: Path) -> list[Origin]:
    """Where the numbers of a figure come from, as far as it is known."""
    if not item.experiments:
        return [origin for name, origin in recorded(folder).items() if name == item.name]
    return [of_run(runs / name) for name in item.experiments if (runs / name / "manifest.json").exists()]


def caption(item: Figure, table: pd.DataFrame, sources: list[Origin]) -> str:
    """Claim in bold, panels, methods, seeds; then the source and the commands with their cost."""
    panels = [f"({letter}) {text}" for letter, text in zip(ascii_lowercase, item.panels, strict=False)]
    methods = item.setting.strip()
    if "95%" not in methods and table["low"].lt(table["high"]).any() and not item.name.endswith("_phase"):
        methods += " Bars: 95% intervals."
    text = " ".join([f"**{item.claim}**", *panels, methods, _seeds(table, sources)])
    lines = [text, "", f"Figure `{item.name}`: {item.section}.{_commands(sources)}"]
    return "\n".join(lines) + "\n"


def _seeds(table: pd.DataFrame, sources: list[Origin]) -> str:
    seeds = table["seeds"][table["measured"].notna()].astype(int)
    low, high = int(seeds.min()), int(seeds.max())
    profiles = " and ".join(dict.fromkeys(origin.profile for origin in sources))
    count = f"{high} seed{'s' * (high > 1)}" if low == high else f"{low} to {high} seeds"
    return f"{count} a point{f' ({profiles} profile)' if profiles else ''}."


def _commands(sources: list[Origin]) -> str:
    commands = [f"`{origin.command}` ({origin.cost})" for origin in sources]
    return f" Numbers: {', '.join(commands)}." if commands else ""


def page(items: list[Figure], folder: Path, runs: Path) -> str:
    """The page of a folder: a line for every figure that is there."""
    lines = ["# Figures", ""]
    if (folder / "CLAIMS.md").exists():
        lines += [
            "`CLAIMS.md` sets the claims of the paper against them; `experiments/` holds the tables of",
            "`python -m sim.sweep NAME` that the figures of experiments are drawn from.",
            "",
        ]
    lines += ["| Figure | Claim | Source | Numbers from, and their cost |", "|---|---|---|---|"]
    for item in items:
        if (folder / f"{item.name}.md").exists():
            commands = "<br>".join(f"`{o.command}` ({o.cost})" for o in origins(item, folder, runs))
            lines.append(f"| [{item.name}]({item.name}.pdf) | {item.claim} | {item.section} | {commands} |")
    return "\n".join(lines) + "\n"
