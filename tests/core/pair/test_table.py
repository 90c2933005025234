"""The table of the pair: every pair of state and event, and the diagram that is drawn from it."""

import itertools

import pytest

from core.pure import pair
from core.pure.pair import ACKNOWLEDGES, ACTIVE, IN_SYNC, TABLE, Action, Event, IllegalStepError, State
from tests.support.processes import ROOT

PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_is_in_the_table_or_illegal(state: State, event: Event) -> None:
    """There is a row, or the step is refused by name; nothing is guessed."""
    if (state, event) in TABLE:
        after, actions = pair.step(state, event)
        assert isinstance(after, State)
        assert all(isinstance(action, Action) for action in actions)
    else:
        with pytest.raises(IllegalStepError, match=event.value):
            pair.step(state, event)


def test_nobody_becomes_active_without_an_epoch_of_its_own() -> None:
    """P1: from not active to active there is no way but through a claim that was synced."""
    for (state, event), (after, actions) in TABLE.items():
        if state not in ACTIVE and after in ACTIVE:
            claimed = state in (State.CLAIMING, State.LEADING) and event is Event.STORED
            assert claimed or Action.CONDEMN in actions, (state, event)


def test_only_a_node_in_sync_is_promoted_by_a_vote() -> None:
    """P3: a vote makes a claim in the window, and the window opens for a node in sync only."""
    votes = {
        state
        for (state, event), (_, actions) in TABLE.items()
        if event is Event.VOTE and Action.CLAIM in actions
    }
    assert votes == {State.WINDOW}
    ways = {state for (state, _), (after, _) in TABLE.items() if after is State.WINDOW and state is not after}
    assert ways == {State.PASSIVE}
    assert sorted(state.value for state in IN_SYNC) == ["passive", "window"]


def test_going_on_alone_is_on_the_disk_first() -> None:
    """P4: a node that lost its peer acknowledges again only with it, or once "peer outdated" is synced."""
    for (state, event), (after, _) in TABLE.items():
        if state in ACTIVE - ACKNOWLEDGES and after in ACKNOWLEDGES:
            back = event is Event.LEASE_BACK and after is State.PAIRED
            stored = state is State.CONDEMNING and event is Event.STORED
            admitted = state is State.ADMITTING and event is Event.STORED and after is State.PAIRED
            assert back or stored or admitted, (state, event)


@pytest.mark.parametrize("state", [state for state in State if state in ACTIVE])
def test_a_higher_epoch_ends_every_reign(state: State) -> None:
    """P1: whoever sees one retires, forgets what is not on its disk and says that it may lack jobs."""
    for event in (Event.PEER_ACTIVE, Event.NEWER):
        after, actions = pair.step(state, event)
        assert after not in ACTIVE
        assert actions[:2] == (Action.RETIRE, Action.CONFESS)


def test_every_state_can_be_reached() -> None:
    """No state is there for nothing."""
    reached, frontier = {State.WAITING}, [State.WAITING]
    while frontier:
        state = frontier.pop()
        for (source, _), (after, _) in TABLE.items():
            if source is state and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == set(State)


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    """The drawing in docs/internals/pair.md is what ``python -m core.pure.pair`` would draw now."""
    text = (ROOT / "docs" / "internals" / "pair.md").read_text()
    assert f"```mermaid\n{pair.diagram()}\n```" in text
