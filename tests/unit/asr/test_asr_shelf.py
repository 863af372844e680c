"""Which models are loaded and which one makes room: the rules by example, and a walk that holds them all the time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TransitionError
from workers.asr.engines.shelf import Close, Effect, Lease, Load, Shelf

pytestmark = pytest.mark.unit


def loaded(shelf: Shelf, *keys: str) -> None:
    """Each was taken, loaded and given back, in this order."""
    for key in keys:
        lease, effects = shelf.take(key)
        assert effects == [Load(key)]
        shelf.loaded(key)
        shelf.give_back(lease)


def test_fifty_sections_of_a_model_keep_one() -> None:
    """Whoever names it next shares what is loaded or still loading."""
    shelf = Shelf(2)
    effects = [effect for _ in range(50) for effect in shelf.take("base")[1]]
    assert effects == [Load("base")]
    assert shelf.users("base") == 50


def test_the_one_used_longest_ago_makes_room() -> None:
    """Giving back counts as use, as taking does."""
    shelf = Shelf(2)
    loaded(shelf, "a", "b")
    lease, _ = shelf.take("a")
    shelf.give_back(lease)
    assert shelf.take("c")[1] == [Close("b"), Load("c")]
    assert shelf.held == {"a", "c"}


def test_one_in_use_is_never_closed() -> None:
    """The wanted one waits until somebody has done with his, and comes then."""
    shelf = Shelf(1)
    lease, _ = shelf.take("a")
    shelf.loaded("a")
    waiting, effects = shelf.take("b")
    assert effects == [] and waiting.place is None
    assert shelf.give_back(lease) == [Close("a"), Load("b")]
    assert waiting.place is not None


def test_one_still_loading_is_not_closed() -> None:
    """Nobody uses it any more, but it is on its way."""
    shelf = Shelf(1)
    lease, _ = shelf.take("a")
    shelf.give_back(lease)
    assert shelf.take("b")[1] == []
    assert shelf.loaded("a") == [Close("a"), Load("b")]


def test_who_gives_up_waiting_gets_nothing() -> None:
    """His model is not loaded for nobody."""
    shelf = Shelf(1)
    lease, _ = shelf.take("a")
    shelf.loaded("a")
    waiting, _ = shelf.take("b")
    shelf.give_back(waiting)
    assert shelf.give_back(lease) == []
    assert shelf.held == {"a"}


def test_a_lost_one_is_loaded_again_when_it_is_wanted() -> None:
    """Its place is free at once; a lease of the dead one gives nothing back to the new one."""
    shelf = Shelf(1)
    old, _ = shelf.take("a")
    shelf.loaded("a")
    assert shelf.lost("a") == []
    _, effects = shelf.take("a")
    assert effects == [Load("a")]
    shelf.give_back(old)
    assert shelf.users("a") == 1


def test_a_place_that_is_lost_goes_to_who_waits() -> None:
    """A model that cannot be loaded does not keep the others out."""
    shelf = Shelf(1)
    shelf.take("bad")
    shelf.take("good")
    assert shelf.lost("bad") == [Load("good")]


@pytest.mark.parametrize("event", ["loaded", "lost"])
def test_news_of_a_model_that_is_not_held_is_refused(event: str) -> None:
    """And changes nothing."""
    shelf = Shelf(1)
    loaded(shelf, "a")
    with pytest.raises(TransitionError):
        getattr(shelf, event)("b")
    with pytest.raises(TransitionError):
        shelf.loaded("a")
    assert shelf.held == {"a"}


@dataclass
class World:
    """Does what the shelf says, and checks it."""

    shelf: Shelf
    room: int
    leases: list[Lease] = field(default_factory=list)
    loading: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)

    def perform(self, effects: list[Effect], in_use: frozenset[str]) -> None:
        for effect in effects:
            if isinstance(effect, Close):
                assert effect.key in self.there and effect.key not in in_use
                self.there.remove(effect.key)
            else:
                assert effect.key not in (*self.there, *self.loading)
                self.loading.append(effect.key)
            assert len(self.there) + len(self.loading) <= self.room
        assert self.shelf.held == {*self.there, *self.loading}

    @property
    def in_use(self) -> frozenset[str]:
        return frozenset(lease.key for lease in self.leases if lease.place is not None)


events = st.lists(st.tuples(st.sampled_from(["take", "give", "give", "loaded", "loaded", "lost"]), st.integers(0, 5)))


@given(room=st.integers(1, 3), walk=events)
def test_the_rules_hold_on_any_walk(room: int, walk: list[tuple[str, int]]) -> None:
    """Never more than there is room for, never twice the same, never one in use closed; and who waits is served."""
    world = World(Shelf(room), room)
    for event, number in walk:
        step(world, event, number)
    drain(world)


def step(world: World, event: str, number: int) -> None:
    held = [*world.there, *world.loading]
    if event == "take":
        lease, effects = world.shelf.take("abcdef"[number])
        in_use = world.in_use
        world.leases.append(lease)
    elif event == "give" and world.leases:
        lease = world.leases.pop(number % len(world.leases))
        in_use = world.in_use
        effects = world.shelf.give_back(lease)
        assert world.shelf.give_back(lease) == []
    elif event == "loaded" and world.loading:
        key = world.loading.pop(number % len(world.loading))
        world.there.append(key)
        in_use = world.in_use
        effects = world.shelf.loaded(key)
    elif event == "lost" and held:
        lose(world, held[number % len(held)])
        return
    else:
        return
    world.perform(effects, in_use)


def lose(world: World, key: str) -> None:
    """Who had it is told, and gives it back."""
    (world.there if key in world.there else world.loading).remove(key)
    gone = [lease for lease in world.leases if lease.key == key and lease.place is not None]
    world.leases = [lease for lease in world.leases if lease not in gone]
    in_use = world.in_use
    world.perform(world.shelf.lost(key), in_use)
    for lease in gone:
        world.perform(world.shelf.give_back(lease), world.in_use)


def drain(world: World) -> None:
    """Everything that loads is loaded and everything that is used is given back: nobody is left waiting."""
    while world.leases:
        while world.loading:
            step(world, "loaded", 0)
        served = next(at for at, lease in enumerate(world.leases) if lease.place is not None)
        step(world, "give", served)
    assert len(world.shelf.held) <= world.room
