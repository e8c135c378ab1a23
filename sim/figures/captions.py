"""Captions of figures and the page of a folder: claim, panels, methods, and the source of the numbers. Seeds,
profile, cost and device are read from the table and from the record of its run."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from sim.lab import files
from sim.lab.figure import COMMANDS, Figure, command_of

RECORD = "tables.json"
"""File of a folder: the origin of each table that computes its own numbers."""


@dataclass(frozen=True)
class Origin:
    """Origin of numbers: command, profile, seconds in all, and device (empty: not recorded)."""

    command: str
    profile: str
    seconds: float
    device: str
    options: str = ""
    """The options of the command that set the amount of computing."""

    @property
    def cost(self) -> str:
        """ "425 s on 1 x NVIDIA H100", minutes from two of them on."""
        time = f"{self.seconds / 60:.0f} min" if self.seconds >= 120 else f"{self.seconds:.0f} s"
        return f"{time} on {self.device}" if self.device else time


def of_run(folder: Path) -> Origin:
    """Origin of the run in a folder, from its manifest; the command is without its output folder."""
    manifest = json.loads((folder / "manifest.json").read_text())
    config = manifest["config"]
    options = "--profile paper" if config["profile"] == "paper" else f"--seeds {config['seeds']}"
    options = "" if config["experiment"] in COMMANDS else options
    command = f"{command_of(config['experiment'])} {options}".strip()
    return Origin(command, config["profile"], manifest["seconds"], manifest["device"], options)


def recorded(folder: Path) -> dict[str, Origin]:
    """Origins of the tables in a folder of figures, by name; those of experiments are in the folders of their
    runs."""
    path = folder / RECORD
    entries = json.loads(path.read_text()) if path.exists() else {}
    return {name: Origin(**fields) for name, fields in entries.items()}


def record(folder: Path, name: str, origin: Origin) -> None:
    """Record the origin of a table of a folder."""
    entries = recorded(folder) | {name: origin}
    text = json.dumps({key: asdict(entries[key]) for key in sorted(entries)}, indent=1)
    files.write_text(folder / RECORD, text + "\n")


def origins(item: Figure, folder: Path, runs: Path) -> list[Origin]:
    """Origins of the numbers of a figure; empty if none is recorded."""
    if not item.experiments:
        return [origin for name, origin in recorded(folder).items() if name == item.name]
    return [of_run(runs / name) for name in item.experiments if (runs / name / "manifest.json").exists()]


def caption(item: Figure, table: pd.DataFrame, sources: list[Origin]) -> str:
    """Claim in bold, panels, methods, seeds; then the source and the commands with their cost."""
    text = " ".join([f"**{item.claim}**", *_panels_and_methods(item, table), _seeds(table, sources)])
    lines = [text, "", f"Figure `{item.name}`: {item.section}.{_commands(sources)}"]
    return "\n".join(lines) + "\n"


def tex(item: Figure, table: pd.DataFrame) -> str:
    """The same for LaTeX, with a label: without commands, profile and sections, which are of this project."""
    text = " ".join([*_panels_and_methods(item, table), _seeds(table, [])])
    text = re.sub(r" \(section [^)]*\)", "", text)
    return f"\\caption{{\\textbf{{{escaped(item.claim)}}} {escaped(text)}}}\n\\label{{fig:{item.name}}}\n"


TEX = {
    **{character: f"\\{character}" for character in "%&#_{}$"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{character: f"${character}$" for character in "<>|"},
    **{"½": r"$\frac12$", "¼": r"$\frac14$", "¾": r"$\frac34$", "²": "$^2$", "₀": "$_0$", "₁": "$_1$"},
    **{"√": r"$\surd$", "≤": r"$\leq$", "≥": r"$\geq$", "≫": r"$\gg$", "−": "$-$", "×": r"$\times$"},
    **{"→": r"$\to$", "∞": r"$\infty$", "±": r"$\pm$", "–": "--"},
    **{"λ": r"$\lambda$", "κ": r"$\kappa$", "ρ": r"$\rho$", "Δ": r"$\Delta$", "θ": r"$\theta$"},
    **{"μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$"},
}
"""What LaTeX writes for a character; others stand as they are."""


def escaped(text: str) -> str:
    """A text for LaTeX: its own characters escaped, symbols as formulas, quotes as pairs."""
    quoted = re.sub(r'"([^"]*)"', r"``\1''", text)
    return quoted.translate(str.maketrans(TEX)).replace("$$", "")


def _panels_and_methods(item: Figure, table: pd.DataFrame) -> list[str]:
    panels = [f"({letter}) {text}" for letter, text in zip(ascii_lowercase, item.panels, strict=False)]
    methods = item.setting.strip()
    if "95%" not in methods and table["low"].lt(table["high"]).any() and not item.name.endswith("_phase"):
        methods += " Bars: 95% intervals."
    return [*panels, methods]


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
            "[CLAIMS.md](CLAIMS.md) sets the claims of the paper against them,",
            "[EXCEPTIONS.md](EXCEPTIONS.md)",
            "lists what does not hold, [GUIDE.md](GUIDE.md) has ten rules for data sets,",
            "[BOARD.md](BOARD.md) compares merges, routers, composed logits and training; `experiments/`",
            "holds the tables of `python -m sim.sweep NAME` that figures of experiments are drawn from.",
            "",
        ]
    lines += ["| Figure | Claim | Source | Numbers from, and their cost |", "|---|---|---|---|"]
    for item in items:
        if (folder / f"{item.name}.md").exists():
            commands = "<br>".join(f"`{o.command}` ({o.cost})" for o in origins(item, folder, runs))
            lines.append(f"| [{item.name}]({item.name}.pdf) | {item.claim} | {item.section} | {commands} |")
    return "\n".join(lines) + "\n"
