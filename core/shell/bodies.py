"""Requests and replies as they were written: from memory if that was a moment ago, else from the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from core.errors import DamagedRecordError
from core.pure.fresh import Fresh
from core.pure.jobs import Job, ReplyMeta, RequestMeta, decode_reply, decode_request, split_frames
from core.pure.ports import Journal

M = TypeVar("M")


class Bodies:
    """Reads for the Titanic service. What :meth:`wrote` was told of is read without the disk, once.

    On its way to a worker a request is in the page cache at best; finding it there, checking it and taking
    it apart cost a node more than the rest of the dispatch.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._requests, self._replies = Fresh(), Fresh()
        self._raw_meta, self._meta = b"", RequestMeta(b"", 0)  # of the last request: a pack shares it

    def requested(self, key: bytes, meta: bytes, frames: Sequence[bytes]) -> None:
        """A request was written and is about to be given to a worker."""
        self._requests.put(key, meta, frames)

    def replied(self, key: bytes, meta: bytes, frames: Sequence[bytes]) -> None:
        """A reply was written, and somebody waits for it."""
        self._replies.put(key, meta, frames)

    def superseded(self, key: bytes) -> None:
        """A reply was written and nobody waits: one kept from before a retry is the wrong one now."""
        self._replies.take(key)

    def request(self, job: Job) -> tuple[RequestMeta, Sequence[bytes]]:
        """What the job asks for, and its frames. DamagedRecordError."""
        found = self._requests.take(job.key)
        if found is not None:
            raw_meta, frames = found
            if raw_meta is not self._raw_meta:
                self._raw_meta, self._meta = raw_meta, decode_request(raw_meta)
            return self._meta, list(frames)
        raw_meta, body = self._journal.read_request(job)
        meta = said(decode_request, raw_meta, job.request_at)
        return meta, split_frames(body, meta.frame_sizes)

    def reply(self, job: Job) -> tuple[ReplyMeta, Sequence[bytes]]:
        """How the job was answered, and the frames. DamagedRecordError. Ask only if it has a reply."""
        found = self._replies.take(job.key)
        if found is not None:
            return decode_reply(found[0]), list(found[1])
        raw_meta, body = self._journal.read_reply(job)
        meta = said(decode_reply, raw_meta, job.reply_at)
        return meta, split_frames(body, meta.frame_sizes)

    def forget(self) -> None:
        """Everything is read from the journal, as after a restart."""
        self._requests.clear()
        self._replies.clear()


def said(decode: Callable[[bytes], M], raw: bytes, at: int) -> M:
    """What the meta of the record at ``at`` says; DamagedRecordError if it says nothing, whole as it is.

    Without an offset: a peer that has the same bytes cannot mend them.
    """
    try:
        return decode(raw)
    except ValueError as error:  # msgspec's, and that of text which is not UTF-8
        raise DamagedRecordError(f"at offset {at}: the meta cannot be read: {error}") from error
