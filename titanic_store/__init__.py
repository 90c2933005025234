"""The disk store: one file used in circles, one thread that writes it, an index in memory.

``docs/internals/data-file.md`` is the specification of the file. ``titanic_store.pure`` holds codecs,
arithmetic and recovery decisions and touches no file, clock, thread or random source;
``titanic_store.shell`` holds the file, the commit thread and the ring that ties them together.
The store knows keys, kinds and bytes; neither Majordomo nor HTTP.
"""

from titanic_store.errors import (
    CutRefusedError,
    DamagedStoreError,
    ForeignRecordError,
    NetworkFileSystemError,
    NotAStoreError,
    RecordsGoneError,
    RecordTooLargeError,
    RingBusyError,
    RingFullError,
    StoreError,
    StoreFailedError,
    StoreInUseError,
    StoreMissingError,
    StoreUnwritableError,
    UnknownVersionError,
)
from titanic_store.pure.kinds import Kind
from titanic_store.pure.options import Options, Policy, Sync
from titanic_store.pure.seams import Crowd, Entry, Foreign, Owner, Storage
from titanic_store.pure.superblock import Flag
from titanic_store.shell.checking import Problem, Report, check
from titanic_store.shell.opening import create_store, open_ring
from titanic_store.shell.ring import Ring

__all__ = [
    "Crowd",
    "CutRefusedError",
    "DamagedStoreError",
    "Entry",
    "Flag",
    "Foreign",
    "ForeignRecordError",
    "Kind",
    "NetworkFileSystemError",
    "NotAStoreError",
    "Options",
    "Owner",
    "Policy",
    "Problem",
    "RecordTooLargeError",
    "RecordsGoneError",
    "Report",
    "Ring",
    "RingBusyError",
    "RingFullError",
    "Storage",
    "StoreError",
    "StoreFailedError",
    "StoreInUseError",
    "StoreMissingError",
    "StoreUnwritableError",
    "Sync",
    "UnknownVersionError",
    "check",
    "create_store",
    "open_ring",
]
