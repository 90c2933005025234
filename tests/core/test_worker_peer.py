"""The worker's side of RFC 7 as a table; frames are written down from the RFC, the clock is ours."""

from __future__ import annotations

import random

import pytest

from core.pure import peer_worker as pw

READY = [b"", b"MDPW01", b"\x01", b"echo"]
BEAT = [b"", b"MDPW01", b"\x04"]
BYE = [b"", b"MDPW01", b"\x05"]
PASSIVE = [*BYE, b"passive"]
LEAVING = [*BYE, b"leaving: what was sent last was not started"]
REQUEST = [b"", b"MDPW01", b"\x02", b"client", b"", b"hi"]
REPLY = [b"", b"MDPW01", b"\x03", b"client", b"", b"ho"]


def opened(now_ms: int = 0) -> pw.WorkerPeer:
    peer = pw.WorkerPeer(b"echo")
    assert peer.open(now_ms) == [pw.Connect(0), pw.Send(READY)]
    return peer


def busy() -> pw.WorkerPeer:
    peer = opened()
    assert peer.receive(REQUEST, 10) == [pw.Run(b"client", [b"hi"])]
    return peer


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"", b"MDPW01"],
        [b"", b"MDPW01", b"\x01", b"echo"],
        [b"", b"MDPW01", b"\x02", b"client", b"no delimiter", b"hi"],
        [b"", b"MDPW01", b"\x02", b"", b"", b"hi"],
        [b"MDPW02", b"\x05"],
        [b"", b"MDPC01", b"echo", b"hi"],
        [b"", b"MDPW01", b"\x63"],
    ],
)
def test_hostile_frames_are_counted_and_change_nothing(frames: list[bytes]) -> None:
    """Neither the state nor the broker's liveness is moved by an invalid message."""
    peer = opened()
    before = peer.next_deadline()
    assert peer.receive(frames, 5) == []
    assert (peer.invalid_count, peer.state, peer.next_deadline()) == (1, pw.State.UNHEARD, before)


def test_any_order_of_events_keeps_the_contract() -> None:
    """Random events: Run only while connected and idle, Send only on an open socket, the end is final."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(200):
        peer, now_ms, is_open = pw.WorkerPeer(b"echo", spread=rng.uniform(0.5, 1.5)), 0, False
        actions = peer.open(now_ms)
        for _ in range(60):
            for action in actions:
                if isinstance(action, pw.Connect):
                    assert not is_open
                    is_open = True
                elif isinstance(action, pw.Close):
                    assert is_open
                    is_open = False
                elif isinstance(action, pw.Send):
                    assert is_open
                elif isinstance(action, pw.Run):
                    assert is_open
                    assert peer.working
            assert is_open == (peer.state in pw.CONNECTED)
            now_ms += rng.choice((0, 1, 300, 2_500, 7_500, 20_000))
            step = rng.randrange(8)
            if step == 0 and peer.working:
                actions = peer.finished(rng.choice((None, [b"ho"])), now_ms, reason="why")
            elif step == 1 and rng.random() < 0.1:
                actions = peer.drain(now_ms)
            elif step == 2:
                actions = peer.lost(now_ms)
            elif step < 6:
                frames = rng.choice((BEAT, REQUEST, JOB, BYE, [b"junk"])) if is_open else BEAT
                actions = peer.receive(frames, now_ms)
            else:
                actions = peer.on_tick(now_ms)
            if peer.stopped and not actions:
                assert peer.next_deadline() is None


def test_a_heartbeat_goes_out_every_interval_idle_or_busy() -> None:
    """RFC 7: a worker heartbeats at regular intervals; ours also during long work."""
    for peer in (opened(), busy()):
        peer.receive(BEAT, 100)
        for now_ms in (2_500, 5_000, 7_500, 10_000):
            assert peer.next_deadline() == now_ms
            assert peer.on_tick(now_ms) == [pw.Send(BEAT)]
            peer.receive(BEAT, now_ms + 1)


def test_three_silent_intervals_end_an_idle_session_and_are_complained_of_once() -> None:
    """Silence for liveness × interval: a fresh socket after a doubling back-off; one complaint."""
    peer = opened()
    peer.receive(BEAT, 100)
    peer.on_tick(2_500)
    peer.on_tick(5_000)
    peer.on_tick(7_500)
    assert peer.on_tick(7_600) == [pw.Close(deliver=False), pw.Silent()]
    delays = []
    now_ms = 7_600
    for number in range(1, 9):
        retry_ms = peer.next_deadline()
        assert retry_ms is not None
        delays.append(retry_ms - now_ms)
        assert peer.on_tick(retry_ms - 1) == []
        assert peer.on_tick(retry_ms) == [pw.Connect(number), pw.Send(READY)]
        now_ms = retry_ms + 7_500
        assert peer.on_tick(now_ms) == [pw.Close(deliver=False)]
    assert delays == [250, 500, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]
    peer.on_tick(now_ms + 1_000)
    assert peer.receive(BEAT, now_ms + 1_001) == [pw.Heard()]


def test_a_lost_connection_of_an_idle_worker_means_a_new_session_at_once() -> None:
    """READY is what a restarted broker hears first; nobody waits for a heartbeat or for silence."""
    peer = opened()
    peer.receive(BEAT, 1)
    assert peer.lost(2) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(READY)]


def test_connections_that_are_lost_before_a_word_back_off() -> None:
    """A port that hangs up (another protocol, a wrong key) is not dialled in a tight loop; one complaint."""
    peer = opened()
    assert peer.lost(10) == [pw.Close(deliver=False), pw.Silent()]
    assert peer.next_deadline() == 10 + 250
    assert peer.lost(11) == []
    peer.on_tick(260)
    assert peer.lost(270) == [pw.Close(deliver=False)]
    assert peer.next_deadline() == 270 + 500


def test_a_lost_connection_while_busy_keeps_the_work() -> None:
    """The reply goes out on the same session, as after silence."""
    for draining in (False, True):
        peer = busy()
        if draining:
            peer.drain(11)
        assert peer.lost(12) == []
        assert peer.finished([b"ho"], 13)[0] == pw.Send(REPLY)


def test_silence_while_busy_keeps_the_session_and_the_reply() -> None:
    """A broker that was away for a while still gets the reply, on the session it may remember."""
    peer = busy()
    assert pw.Silent() in peer.on_tick(7_600)
    assert peer.state is pw.State.BUSY
    assert peer.finished([b"ho"], 9_000) == [pw.Send(REPLY)]
    assert str(peer.state) == "State.IDLE"


def test_disconnect_while_idle_means_a_new_session_at_once() -> None:
    """RFC 7: a worker that gets DISCONNECT reconnects and says READY again."""
    peer = opened()
    peer.receive(BEAT, 1)
    assert peer.receive(BYE, 2) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(READY)]


def test_disconnect_before_anything_else_is_a_refusal_and_backs_off() -> None:
    """A broker that refuses the service is not asked again in a tight loop."""
    peer = opened()
    assert peer.receive(BYE, 2) == [pw.Close(deliver=False)]
    assert peer.next_deadline() == 2 + 500


def test_disconnect_while_busy_gives_the_attempt_up_and_starts_afresh_when_it_ends() -> None:
    """The broker took the job away: no reply is sent for it, and no new job comes before it ended."""
    peer = busy()
    assert peer.receive(BYE, 20) == [pw.Close(deliver=False), pw.Abandon()]
    assert peer.next_deadline() is None
    assert peer.finished([b"ho"], 30) == [pw.Connect(1), pw.Send(READY)]


def test_a_second_request_while_busy_ends_the_session() -> None:
    """RFC 7: a worker handles one request at a time; a broker that forgets is met with a fresh start."""
    peer = busy()
    assert peer.receive(REQUEST, 20) == [pw.Close(deliver=False), pw.Abandon()]


def test_a_failed_attempt_is_a_disconnect_with_its_reason_then_ready() -> None:
    """Our extension: one frame after DISCONNECT's three; other brokers ignore it."""
    peer = busy()
    assert peer.finished(None, 20, reason="no such file") == [
        pw.Send([b"", b"MDPW01", b"\x05", b"no such file"]),
        pw.Send(READY),
    ]
    assert peer.receive(REQUEST, 21) == [pw.Run(b"client", [b"hi"])]


def test_a_long_reason_is_cut() -> None:
    """The reason is short text, whatever a handler puts into its exception."""
    sent = busy().finished(None, 20, reason="ä" * 5_000)[0]
    assert isinstance(sent, pw.Send)
    assert len(sent.frames[3]) == pw.REASON_MAX_BYTES


def test_draining_finishes_the_job_at_hand_and_takes_no_other() -> None:
    """Busy: reply, then DISCONNECT, last words delivered. Idle: DISCONNECT. Waiting: nothing."""
    peer = busy()
    assert peer.drain(20) == []
    assert peer.finished([b"ho"], 30) == [pw.Send(REPLY), pw.Send(LEAVING), pw.Close(deliver=True)]
    assert peer.stopped
    peer = opened()
    assert peer.drain(20) == [pw.Send(LEAVING), pw.Close(deliver=True)]
    assert peer.stopped
    peer = opened()
    peer.on_tick(7_500)
    assert peer.drain(7_501) == []
    assert peer.stopped


def test_version_two_speaks_rfc_18() -> None:
    """MDP/0.2 has no leading empty frame and numbers its commands differently."""
    peer = pw.WorkerPeer(b"echo", version=2)
    assert peer.open(0)[1] == pw.Send([b"MDPW02", b"\x01", b"echo"])
    assert peer.receive([b"MDPW02", b"\x02", b"client", b"", b"hi"], 1) == [pw.Run(b"client", [b"hi"])]
    assert peer.finished([b"ho"], 2) == [pw.Send([b"MDPW02", b"\x04", b"client", b"", b"ho"])]
    assert peer.receive(REQUEST, 3) == []
    assert peer.invalid_count == 1


ADDRESS = b"J" + bytes(8) + b"\x80" + bytes(7) + b"\0\0\0\x01"
JOB = [b"", b"MDPW01", b"\x02", ADDRESS, b"", b"hi"]
OWED = [b"", b"MDPW01", b"\x03", ADDRESS, b"", b"ho"]


def at_a_job() -> pw.WorkerPeer:
    peer = opened()
    assert peer.receive(JOB, 10) == [pw.Run(ADDRESS, [b"hi"])]
    return peer


def test_a_node_that_restarted_does_not_stop_the_work() -> None:
    """Behind a cut DISCONNECT says "who are you", not "give up": work goes on, its reply comes first."""
    peer = at_a_job()
    assert peer.lost(20) == []
    assert peer.receive(BYE, 900) == [pw.Close(deliver=False)]
    assert peer.working
    assert peer.finished([b"ho"], 1_000) == [pw.Connect(1), pw.Send(OWED)]
    assert peer.receive(BYE, 1_010) == [pw.Close(deliver=False), pw.Connect(2), pw.Send(READY)]


def test_a_job_that_is_done_while_the_node_is_away_is_handed_in_when_it_is_back() -> None:
    """On a fresh socket, again and again until a broker says something; then the worker registers."""
    peer = at_a_job()
    peer.lost(20)
    assert peer.finished([b"ho"], 1_000) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(OWED)]
    assert pw.Close(deliver=False) in peer.on_tick(8_500)
    assert peer.state is pw.State.WAITING
    at_ms = peer.next_deadline()
    assert at_ms is not None
    assert peer.on_tick(at_ms) == [pw.Connect(2), pw.Send(OWED)]
    assert peer.receive(BYE, at_ms + 5) == [
        pw.Heard(),
        pw.Close(deliver=False),
        pw.Connect(3),
        pw.Send(READY),
    ]


def test_a_passive_node_does_not_stop_the_work() -> None:
    """Its DISCONNECT says so: the attempt is not given up, its reply is for the other node."""
    peer = at_a_job()
    assert peer.receive(PASSIVE, 900) == [pw.Close(deliver=False)]
    assert peer.working
    assert peer.finished([b"ho"], 1_000) == [pw.Connect(1), pw.Send(OWED)]


def test_what_a_passive_node_was_handed_goes_to_the_other_one() -> None:
    """By turns, with a pause between, until one has taken it; then the worker registers."""
    peer = at_a_job()
    peer.receive(PASSIVE, 900)
    peer.finished([b"ho"], 1_000)
    now_ms = 1_000
    for number in range(2, 60):
        now_ms += 10
        assert peer.receive(PASSIVE, now_ms) == [pw.Close(deliver=False)]
        at_ms = peer.next_deadline()
        assert at_ms is not None
        assert now_ms + 100 < at_ms <= now_ms + 1_500
        now_ms = at_ms
        assert peer.on_tick(now_ms) == [pw.Connect(number), pw.Send(OWED)]
    assert peer.receive(BYE, now_ms + 10) == [pw.Close(deliver=False), pw.Connect(60), pw.Send(READY)]


@pytest.mark.parametrize("drained", ["at work", "handing in", "waiting"])
def test_a_draining_worker_asks_both_nodes_of_a_pair(drained: str) -> None:
    """It leaves once one has taken its reply, or after liveness × interval of passive ones."""
    for taken in (True, False):
        peer = at_a_job()
        peer.lost(20)
        if drained == "at work":
            peer.drain(30)
        peer.finished([b"ho"], 1_000)
        if drained == "handing in":
            peer.drain(1_005)
        peer.receive(PASSIVE, 1_010)
        if drained == "waiting":
            assert peer.drain(1_020) == []
        now_ms = 1_010
        while not peer.stopped:
            at_ms = peer.next_deadline()
            assert at_ms is not None
            now_ms = at_ms
            assert pw.Send(OWED) in peer.on_tick(now_ms)
            now_ms += 5
            actions = peer.receive(BYE if taken else PASSIVE, now_ms)
            assert actions == [pw.Close(deliver=False)]
        assert (now_ms < 2_000) if taken else (8_510 <= now_ms < 10_000)


@pytest.mark.parametrize("heard", [BEAT, JOB])
def test_a_broker_that_knows_us_by_our_name_needs_no_ready(heard: list[bytes]) -> None:
    """A named worker whose connection was cut is still registered: its reply was an ordinary one."""
    peer = at_a_job()
    peer.lost(20)
    peer.finished([b"ho"], 1_000)
    actions = peer.receive(heard, 1_010)
    assert actions == ([pw.Run(ADDRESS, [b"hi"])] if heard is JOB else [])
    assert peer.state is (pw.State.BUSY if heard is JOB else pw.State.IDLE)


def test_an_attempt_that_was_given_up_is_handed_in_if_its_work_ends_well() -> None:
    """DISCONNECT without a cut means give up; work that cannot be stopped is not thrown away."""
    peer = at_a_job()
    assert peer.receive(BYE, 900) == [pw.Close(deliver=False), pw.Abandon()]
    assert peer.finished([b"ho"], 1_000) == [pw.Connect(1), pw.Send(OWED)]


def test_only_replies_to_durable_jobs_are_handed_in() -> None:
    """Nobody waits for the reply to a plain request whose client's broker is gone."""
    peer = busy()
    peer.lost(20)
    peer.receive(BYE, 900)
    assert peer.finished([b"ho"], 1_000) == [pw.Connect(1), pw.Send(READY)]


def test_a_heartbeat_after_the_cut_says_that_we_are_known() -> None:
    """Then DISCONNECT is about the attempt again."""
    peer = at_a_job()
    peer.lost(20)
    peer.receive(BEAT, 500)
    assert pw.Abandon() in peer.receive(BYE, 900)


@pytest.mark.parametrize("answer", [BYE, BEAT, JOB])
def test_a_draining_worker_hands_in_what_it_owes_before_it_leaves(answer: list[bytes]) -> None:
    """It goes once a broker has answered, or has been silent for too long."""
    peer = at_a_job()
    peer.lost(20)
    peer.drain(30)
    assert peer.finished([b"ho"], 1_000) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(OWED)]
    assert not peer.stopped
    assert peer.lost(1_500) == [pw.Close(deliver=False), pw.Connect(2), pw.Send(OWED)]
    actions = peer.receive(answer, 2_000)
    assert (
        actions == [pw.Close(deliver=False)]
        if answer is BYE
        else actions
        == [
            pw.Send(LEAVING),
            pw.Close(deliver=True),
        ]
    )
    assert peer.stopped


def test_a_draining_worker_does_not_wait_for_ever() -> None:
    """Nobody answers for liveness × interval: it leaves with what it owes."""
    silent = at_a_job()
    silent.lost(20)
    silent.drain(30)
    silent.finished([b"ho"], 1_000)
    silent.on_tick(20_000)
    assert silent.stopped
