"""Hypothesis looks for the shortest history that breaks a promise."""

from contextlib import ExitStack
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.torture.sources import decided_by
from tests.torture.world import World, until_it_breaks
from titanic_store.shell.faulty import Fault

SIZES: Final = st.sampled_from((0, 100, 4000, 20_000, 52_000))


class StoreMachine(RuleBasedStateMachine):
    """The whole store against the ledger of its client; the rules are what may happen."""

    world: World

    @initialize(
        seed=st.integers(0, 1 << 16),
        align=st.sampled_from((4096, 512)),
        policy=st.sampled_from(("always", "interval:5ms", "never")),
        max_chunks=st.integers(6, 9),
    )
    def begin(self, seed: int, align: int, policy: str, max_chunks: int) -> None:
        self.stack = ExitStack()
        self.clock = self.stack.enter_context(decided_by(seed))
        self.world = World(seed, align, policy, max_chunks, self.clock)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    def _one(self, choice: int) -> int:
        usable = self.world.usable()
        return usable[choice % len(usable)]

    def _any(self) -> bool:
        return bool(self.world.usable())

    @rule(size=SIZES)
    def request(self, size: int) -> None:
        self.world.request(size)

    @precondition(_any)
    @rule(choice=st.integers(0, 20))
    def reply(self, choice: int) -> None:
        self.world.reply(self._one(choice))

    @precondition(_any)
    @rule(choice=st.integers(0, 20))
    def note(self, choice: int) -> None:
        self.world.note(self._one(choice))

    @precondition(_any)
    @rule(choice=st.integers(0, 20))
    def close(self, choice: int) -> None:
        self.world.close(self._one(choice))

    @rule()
    def commit(self) -> None:
        self.world.commit()

    @rule(seconds=st.sampled_from((0.001, 0.03, 2.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.time_passes(seconds)

    @rule()
    def stop_and_start(self) -> None:
        self.world.close_in_order()

    @rule()
    def kill(self) -> None:
        self.world.kill()

    @rule()
    def power_fails(self) -> None:
        self.world.power_fails()

    @rule(calls=st.integers(0, 12))
    def power_fails_in_a_call(self, calls: int) -> None:
        self.world.disk.cut_at = len(self.world.disk.calls) + calls
        until_it_breaks(self.world)

    @rule(calls=st.integers(0, 12), short=st.booleans())
    def a_call_fails(self, calls: int, short: bool) -> None:
        self.world.disk.fault = Fault(len(self.world.disk.calls) + calls, short=short)
        until_it_breaks(self.world)

    @invariant()
    def what_is_in_the_index_can_be_read(self) -> None:
        if hasattr(self, "world"):
            for entry in list(self.world.ring.index.values())[:3]:
                self.world.ring.read_meta(entry.request_at)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
