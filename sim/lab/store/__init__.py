"""Results on disk: nothing lost on Ctrl-C, kill or a full disk, nothing computed twice, none overwritten."""

from sim.lab.store.database import Failure
from sim.lab.store.folder import Store, is_unfinished
from sim.lab.store.identity import digest, environment, plain
from sim.lab.store.tables import LARGEST, compress_tables, read_table, summarise, table_path

__all__ = [
    "LARGEST",
    "Failure",
    "Store",
    "compress_tables",
    "digest",
    "environment",
    "is_unfinished",
    "plain",
    "read_table",
    "summarise",
    "table_path",
]
