"""The API reference: a page a room, each module with what its docstrings say."""

import ast
from pathlib import Path


def write(root: Path, docs: Path) -> list[dict[str, object]]:
    """Write ``api/*.md`` into ``docs``; returns their part of the navigation, theory first, then sim's rooms.

    Docstrings are read, not imported.
    """
    rooms = ["theory", *sorted(f"sim/{path.parent.name}" for path in (root / "sim").glob("*/__init__.py"))]
    entries: list[dict[str, object]] = []
    for room in rooms:
        modules = [path for path in sorted((root / room).rglob("*.py")) if _shown(path)]
        name = room.replace("/", ".")
        text = "\n".join([f"# {name}", *(f"\n::: {_dotted(root, path)}" for path in modules)])
        page = docs / "api" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text + "\n", encoding="utf-8")
        entries.append({name: f"api/{name}.md"})
    return entries


def _shown(path: Path) -> bool:
    """Whether a module is public and has definitions or a docstring."""
    if path.name.startswith("_") and path.name not in ("__init__.py", "__main__.py"):
        return False
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is not None


def _dotted(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
