"""Notebooks run from top to bottom in a fresh kernel of this interpreter (extra ``docs`` or ``test``).

mkdocs-jupyter would run the copies that gen-files makes, away from their data, and keep their widgets.
"""

from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient


def new_kernel() -> AsyncKernelManager:
    """A kernel of this interpreter, whatever kernels the machine has installed; it is not started yet."""
    return AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))


def executed(
    path: Path, seconds: int = 600, kernel: AsyncKernelManager | None = None
) -> nbformat.NotebookNode:
    """The notebook with its outputs; the file is left as it is. A cell may take ``seconds``.

    kernel: one for several notebooks of a folder: it forgets the names of the one before, and is left
    running. By default the notebook has one of its own.

    Raises nbclient's CellExecutionError, which shows the cell, for an error in it.
    """
    notebook = nbformat.read(path, as_version=4)
    if kernel:
        notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    place = {"metadata": {"path": str(path.parent)}}
    quiet = ["--Application.log_level=ERROR"]  # the kernel's advice on networks
    client = NotebookClient(
        notebook, km=kernel or new_kernel(), timeout=seconds, resources=place, extra_arguments=quiet
    )
    client.execute(cleanup_kc=kernel is None)
    if kernel:
        client.kc.stop_channels()
        del notebook.cells[0]
    return notebook


def still(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without its widgets, which need a kernel; each leaves its picture."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook
