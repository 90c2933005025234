"""Who may do what: the allow-list, ZAP, and the names that belong to keys."""

from __future__ import annotations

import os

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from core.errors import PeerError
from core.pure import allow, zap
from core.pure.allow import Admission, AllowListError

A, B, C = "a" * 40, "b" * 40, "c" * 40


def one(key: str = A, **more: str) -> str:
    lines = "".join(f"{name} = {value}\n" for name, value in more.items())
    return f'[[peer]]\nkey = "{key}"\n{lines}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[peer]", "Expected"),
        ("peer = 1", "nothing else"),
        ("other = 1", "nothing else"),
        ("peer = [1]", "no table"),
        (one(key="short", name='"x"'), "40 characters"),
        ('[[peer]]\nname = "x"', "40 characters"),
        (one(), "'name'"),
        (one(name='""'), "'name'"),
        (one(name='"x"', client='"*"'), "list of service names"),
        (one(name='"x"', client="[1]"), "list of service names"),
        (one(name='"x"', worker='["a*b"]'), "at the end"),
        (one(name='"x"', wroker="[]"), "no field 'wroker'"),
        (one(name='"x"') + one(name='"y"'), "the key of 'x'"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_entry(text: str, why: str) -> None:
    """A mistake in the list never lets anybody in."""
    with pytest.raises(AllowListError, match=why):
        allow.parse(text)


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    """No text raises anything else."""
    try:
        peers = allow.parse(text).peers
    except AllowListError:
        return
    assert all(len(key) == 40 for key in peers)


def test_services_are_names_or_beginnings_of_names() -> None:
    """``*`` stands for what follows; what is not listed is not allowed."""
    admission = Admission(allow.parse(one(name='"x"', client='["echo", "titanic.*"]', worker='["*"]')))
    assert not admission.may_ask(b"echo"), "nobody spoke yet"
    assert admission.speaks(b"\0abcd", A)
    assert admission.may_ask(b"echo")
    assert admission.may_ask(b"titanic.request")
    assert not admission.may_ask(b"echo2")
    assert not admission.may_ask(b"mmi.service")
    assert admission.may_work(b"anything")


def test_an_empty_list_lets_nobody_in() -> None:
    """The default is no."""
    admission = Admission(allow.parse(""))
    assert not admission.speaks(b"\0abcd", A)
    assert not admission.may_ask(b"echo")
    assert admission.refused_count == 1


def test_a_name_belongs_to_the_first_key_that_used_it() -> None:
    """Another key is refused under it, whoever it is; transient identities belong to nobody."""
    admission = Admission(allow.parse(one(A, name='"lucy"', client='["*"]') + one(B, name='"charlie"')))
    assert admission.speaks(b"lucy", A)
    assert not admission.speaks(b"lucy", B)
    assert not admission.may_ask(b"echo"), "the thief inherits no right of the message before"
    assert admission.stolen_count == 1
    assert admission.speaks(b"lucy", A)
    assert admission.speaks(b"\0abcd", A)
    assert admission.speaks(b"\0abcd", B)


def test_a_name_passes_on_to_the_next_key_of_the_same_peer_only() -> None:
    """Keys are changed by listing both, then removing the old one; nobody else inherits the name."""
    admission = Admission(allow.parse(one(A, name='"lucy"')))
    assert admission.speaks(b"lucy", A)
    admission.allowed = allow.parse(one(A, name='"lucy"') + one(B, name='"lucy"') + one(C, name='"eve"'))
    assert not admission.speaks(b"lucy", B), "while the old key is listed the name is its own"
    admission.allowed = allow.parse(one(B, name='"lucy"') + one(C, name='"eve"'))
    assert not admission.speaks(b"lucy", C)
    assert not admission.speaks(b"lucy", A)
    assert admission.speaks(b"lucy", B)


def zap_request(key: bytes, **wrong: bytes) -> list[bytes]:
    fields = {"version": b"1.0", "domain": b"titanic", "mechanism": b"CURVE", **wrong}
    before = [b"peer", b"", fields["version"], b"1", fields["domain"]]
    return [*before, b"127.0.0.1", b"name", fields["mechanism"], key]


def test_zap_lets_known_keys_in_and_says_who_they_are() -> None:
    """200 and the key as user id, 400 for everybody else, the request's id in each answer (RFC 27)."""
    public, _ = zmq.curve_keypair()
    raw = z85.decode(public)
    allowed = allow.parse(one(public.decode(), name='"x"'))
    assert zap.answer(zap_request(raw), allowed) == [b"peer", b"", b"1.0", b"1", b"200", b"OK", public, b""]
    for frames in (
        zap_request(os.urandom(32)),
        zap_request(raw[:-1]),
        zap_request(raw, domain=b"other"),
        zap_request(raw, mechanism=b"PLAIN"),
        [*zap_request(raw), b"more"],
    ):
        assert zap.answer(frames, allowed)[4] == b"400"


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_any_zap_frames_are_refused_or_a_peer_error(frames: list[bytes]) -> None:
    """Nothing but a known key gets 200, and nothing raises anything else."""
    try:
        answer = zap.answer(frames, allow.AllowList())
    except PeerError:
        return
    assert answer[4] == b"400"
