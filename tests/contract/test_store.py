"""What every store keeps and to whom it gives it: the same on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from shared.store.faults import StoreRefusedError, SupersededError
from shared.store.model import (
    Claimant,
    Commit,
    DeviceFacts,
    Forgotten,
    Losses,
    Lost,
    Parcel,
    StoredCall,
    StoredMessage,
    StoredTurn,
)
from tests.fakes.stores import StorePlace, commit_of, parcel, turn

pytestmark = pytest.mark.contract

WINDOW_S = 300.0


# ownership


async def test_a_claim_raises_the_epoch_and_the_older_one_writes_nothing(place: StorePlace) -> None:
    """The loser of a device learns it at its next write, which leaves no trace."""
    async with place.opened() as store:
        old = await store.ownership.claim("d", "first", 1.0)
        await store.dialogues.commit(commit_of(old, 1, at_s=1.0), 1.0)
        new = await store.ownership.claim("d", "second", 2.0)
        assert new.epoch > old.epoch
        late = commit_of(old, 2, facts=DeviceFacts(speaker="x"), notes=(("", "n"),), parcels=(parcel(),))
        with pytest.raises(SupersededError) as caught:
            await store.dialogues.commit(late, 3.0)
        with pytest.raises(SupersededError):
            await store.memory.put(old, "note", 3.0)
        assert (caught.value.epoch, caught.value.now_at) == (old.epoch, new.epoch)
        assert await store.dialogues.load("d", 3.0, WINDOW_S, 9) == [turn(1, 1.0)]
        assert await store.memory.get("d") is None
        assert (await store.outbox.backlog()).waiting == 0
        await store.dialogues.commit(commit_of(new, 3, at_s=3.0), 3.0)


async def test_a_later_life_of_a_connection_wins_in_whatever_order_claims_arrive(place: StorePlace) -> None:
    """A claim that was under way when its worker died does not take the device from the worker that came after."""
    async with place.opened() as store:
        first = await store.ownership.claim("d", "one", 1.0, by=Claimant("c", 1))
        # The second life's claim arrives after the third one's, and neither knows of the other.
        third = await store.ownership.claim("d", "three", 1.0, by=Claimant("c", 3, after=first.epoch))
        with pytest.raises(SupersededError):
            await store.ownership.claim("d", "two", 1.0, by=Claimant("c", 2, after=first.epoch))
        await store.dialogues.commit(commit_of(third, 1), 1.0)
        # The other way round the third goes on from an epoch it never heard of.
        await store.ownership.claim("e", "one", 1.0, by=Claimant("c", 1))
        second = await store.ownership.claim("e", "two", 1.0, by=Claimant("c", 2))
        third = await store.ownership.claim("e", "three", 1.0, by=Claimant("c", 3, after=1))
        assert third.epoch > second.epoch


async def test_the_same_claim_may_be_tried_again(place: StorePlace) -> None:
    """Its first answer may have been lost with the database's connection."""
    async with place.opened() as store:
        first = await store.ownership.claim("d", "one", 1.0, by=Claimant("c", 1))
        again = Claimant("c", 2, after=first.epoch)
        await store.ownership.claim("d", "two", 1.0, by=again)
        await store.ownership.claim("d", "two", 1.0, by=again)
        with pytest.raises(SupersededError):
            await store.ownership.claim("d", "three", 1.0, by=again)


async def test_another_connection_wins_against_all_lives_of_the_older_one(place: StorePlace) -> None:
    """What lost its worker goes on only if nobody else has claimed the device since."""
    async with place.opened() as store:
        old = await store.ownership.claim("d", "one", 1.0, by=Claimant("c", 1))
        new = await store.ownership.claim("d", "one", 1.0, by=Claimant("newer", 1))
        with pytest.raises(SupersededError) as caught:
            await store.ownership.claim("d", "two", 1.0, by=Claimant("c", 2, after=old.epoch))
        assert caught.value.now_at == new.epoch
        with pytest.raises(SupersededError):
            await store.ownership.claim("never seen", "two", 1.0, by=Claimant("c", 2, after=old.epoch))


async def test_a_claim_of_a_device_that_nobody_knows_is_refused(place: StorePlace) -> None:
    """What was never claimed here, or was removed, is not brought back by a write."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        with pytest.raises(SupersededError) as caught:
            await store.dialogues.commit(commit_of(replace(claim, device="other"), 1), 1.0)
        assert caught.value.now_at is None


async def test_facts_come_back_with_the_next_claim_and_stay_where_nothing_is_said(place: StorePlace) -> None:
    """A device that reconnects need not tell its tools again."""
    tools = [{"name": "self.light.on", "schema": {"n": 1.5, "名": ["灯", None, True]}}]
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        assert claim.facts == DeviceFacts()
        await store.dialogues.commit(Commit(claim, facts=DeviceFacts({"mcp": True}, tools, "妈妈")), 1.0)
        await store.dialogues.commit(Commit(claim, facts=DeviceFacts(profile={"vad": {}}, features={})), 2.0)
        again = await store.ownership.claim("d", "w2", 3.0)
        assert again.facts == DeviceFacts({}, tools, "妈妈", {"vad": {}})


async def test_lost_tells_the_claims_of_others_since_then(place: StorePlace) -> None:
    """One question finds every device that went elsewhere, once."""
    async with place.opened() as store:
        owner = store.ownership
        since = await owner.latest()
        for device in ("a", "b", "c"):
            await owner.claim(device, "me", 1.0)
        nothing = await owner.lost("me", since)
        assert nothing.lost == ()
        b = await owner.claim("b", "you", 2.0)
        a = await owner.claim("a", "you", 2.0)
        await owner.claim("c", "me", 2.0)
        losses = await owner.lost("me", nothing.until)
        assert losses.lost == (Lost("b", b.epoch), Lost("a", a.epoch))
        assert await owner.lost("me", losses.until) == Losses((), losses.until)
        assert await owner.latest() == losses.until


async def test_two_processes_that_claim_the_same_devices_get_different_epochs(place: StorePlace) -> None:
    """The last claim of a device is the only one that writes, and `lost` misses none of them while they go on."""
    devices, rounds = [f"d{n}" for n in range(5)], 12
    async with place.opened() as store:
        since, seen = await store.ownership.latest(), set()
        processes = [await place.process("claim", holder, str(rounds), *devices) for holder in ("p", "q")]
        printing = asyncio.gather(*(process.communicate() for process in processes))
        while not printing.done():
            losses = await store.ownership.lost("me", since)
            assert [lost.epoch for lost in losses.lost if not since < lost.epoch <= losses.until] == []
            seen |= {(lost.device, lost.epoch) for lost in losses.lost}
            since = losses.until
            await asyncio.sleep(0)
        seen |= {(lost.device, lost.epoch) for lost in (await store.ownership.lost("me", since)).lost}
        lines = [line.split() for out, _ in printing.result() for line in out.decode().splitlines()]
        claims = [(device, int(epoch)) for device, epoch in lines]
        assert [process.returncode for process in processes] == [0, 0]
        assert sorted(epoch for _, epoch in claims) == list(range(1, 2 * rounds * len(devices) + 1))
        assert seen <= set(claims)
        assert {(device, max(epoch for of, epoch in claims if of == device)) for device in devices} <= seen


# dialogues


async def test_a_turn_comes_back_as_it_was(place: StorePlace) -> None:
    """Roles, texts, calls and their answers, in order."""
    said = (
        StoredMessage("user", "开灯 💡 'quoted' \\ \n"),
        StoredMessage("assistant", "", (StoredCall("c1", "light.on", '{"n":1}'), StoredCall("c2", "x", ""))),
        StoredMessage("tool", '{"ok":true}', call_id="c1"),
        StoredMessage("tool", "", call_id="c2"),
        StoredMessage("assistant", "好的。"),
    )
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        written = StoredTurn("session", 7, 12.25, said)
        await store.dialogues.commit(Commit(claim, (turn(6, 12.0, session="session"), written)), 12.5)
        assert await store.dialogues.load("d", 13.0, WINDOW_S, 9) == [turn(6, 12.0, session="session"), written]


async def test_a_turn_is_not_lost_for_a_character_that_no_database_takes(place: StorePlace) -> None:
    """NUL and lone surrogates come out of JSON that models and devices write."""
    call = StoredCall("c\x00", "n\ud800", '{"a":"\\u0000\x00"}')
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        messages = (StoredMessage("user", "a\x00b\ud800c"), StoredMessage("assistant", "", (call,)))
        facts = DeviceFacts({"a\x00": "\ud800"}, None, "x\x00")
        parcels = (Parcel("report", "s\x00", "d", {"t": "\x00\udfff"}, b"\x00\xff"),)
        await store.dialogues.commit(
            Commit(claim, (StoredTurn("s", 1, 1.0, messages),), facts, (("r\x00", "\x00m"),), parcels), 1.0
        )
        (loaded,) = await store.dialogues.load("d", 1.0, WINDOW_S, 9)
        assert loaded.messages[0].text == "ab?c"
        assert loaded.messages[1].calls == (call,)
        assert (await store.ownership.claim("d", "w", 2.0)).facts.features == {"a\x00": "\ud800"}
        (lease,) = await store.outbox.lease("h", ["report"], 2.0, 9.0, 1)
        assert (lease.parcel.payload, lease.parcel.audio) == ({"t": "\x00\udfff"}, b"\x00\xff")


async def test_a_repeated_commit_changes_nothing(place: StorePlace) -> None:
    """Whoever does not know whether a commit went through may send it again."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        commit = commit_of(claim, 1, 2, at_s=1.0, parcels=(parcel(1, key="1"), parcel(2, key="2")))
        for _ in range(3):
            await store.dialogues.commit(commit, 1.0)
        more = commit_of(claim, 2, 3, at_s=1.0, parcels=(parcel(2, key="2"), parcel(3, key="3")))
        await store.dialogues.commit(more, 2.0)
        assert [one.gen for one in await store.dialogues.load("d", 2.0, WINDOW_S, 9)] == [1, 2, 3]
        assert (await store.outbox.backlog()).waiting == 3


async def test_a_commit_is_whole_or_not_at_all(place: StorePlace) -> None:
    """A part that the store refuses takes the others with it, and its words appear nowhere."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        bad = Parcel("report", "s", "d", {"secret words": float("nan")})
        with pytest.raises(StoreRefusedError) as caught:
            await store.dialogues.commit(commit_of(claim, 1, notes=(("", "secret words"),), parcels=(bad,)), 1.0)
        assert "secret" not in repr(caught.value)
        assert caught.value.__cause__ is None
        assert await store.dialogues.load("d", 1.0, WINDOW_S, 9) == []
        assert await store.memory.get("d") is None


async def test_a_value_that_no_column_takes_is_refused_and_not_tried_again(place: StorePlace) -> None:
    """It would fail for ever and hold up everything behind it."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        with pytest.raises(StoreRefusedError) as caught:
            await store.dialogues.commit(commit_of(claim, 2**70), 1.0)
        assert "hello" not in repr(caught.value)
        await store.dialogues.commit(commit_of(claim, 1), 1.0)


async def test_a_dialogue_goes_on_only_within_its_window(place: StorePlace) -> None:
    """The last turns without a gap; inside one session a gap does not matter."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        turns = (
            turn(1, 1000.0, session="morning"),
            turn(1, 2000.0, session="noon"),
            turn(2, 2900.0, session="noon"),
            turn(1, 3100.0, session="later"),
        )
        await store.dialogues.commit(Commit(claim, turns), 1.0)
        assert await store.dialogues.load("d", 3400.0, WINDOW_S, 9) == list(turns[1:])
        assert await store.dialogues.load("d", 3400.5, WINDOW_S, 9) == []
        assert await store.dialogues.load("d", 3200.0, WINDOW_S, 2) == list(turns[2:])
        assert await store.dialogues.load("other", 3200.0, WINDOW_S, 9) == []


async def test_dialogues_of_two_devices_do_not_mix(place: StorePlace) -> None:
    """Written alternately, read apart."""
    async with place.opened() as store:
        claims = [await store.ownership.claim(device, "w", 1.0) for device in "ab"]
        for gen in range(3):
            for claim in claims:
                await store.dialogues.commit(Commit(claim, (turn(gen, 1.0, session=claim.device),)), 1.0)
        for claim in claims:
            loaded = await store.dialogues.load(claim.device, 1.0, WINDOW_S, 9)
            assert [(one.session, one.gen) for one in loaded] == [(claim.device, gen) for gen in range(3)]


# memory


async def test_memory_is_kept_by_device_and_role(place: StorePlace) -> None:
    """Each role remembers its own; an empty text is no memory."""
    async with place.opened() as store:
        claim = await store.ownership.claim("d", "w", 1.0)
        await store.memory.put(claim, "plain", 1.0)
        await store.memory.put(claim, "cook", 2.0, "cook")
        await store.dialogues.commit(Commit(claim, notes=(("", "plainer"),)), 3.0)
        note = await store.memory.get("d")
        assert note is not None and (note.text, note.updated_s) == ("plainer", 3.0)
        cook = await store.memory.get("d", "cook")
        assert cook is not None and cook.text == "cook"
        await store.memory.put(claim, "", 4.0)
        assert await store.memory.get("d") is None
        assert await store.memory.get("e", "cook") is None


# forgetting


async def test_forgetting_removes_all_of_one_device_and_nothing_of_others(place: StorePlace) -> None:
    """History, memory, what waits for delivery and its sound; told in numbers."""
    async with place.opened() as store:
        claims = [await store.ownership.claim(device, "w", 1.0) for device in "ab"]
        for claim in claims:
            parcels = [parcel(n, device=claim.device, session=claim.device, audio=b"x" * n) for n in range(3)]
            commit = Commit(
                claim,
                tuple(turn(gen, 1.0, session=claim.device) for gen in range(4)),
                DeviceFacts({"mcp": True}),
                (("", "one"), ("cook", "two")),
                tuple(parcels),
            )
            await store.dialogues.commit(commit, 1.0)
        assert await store.forget("a", 2.0) == Forgotten(4, 2, 3, 2, facts=True)
        assert not await store.forget("a", 3.0)
        assert not await store.forget("never seen", 3.0)
        assert await store.dialogues.load("a", 2.0, WINDOW_S, 9) == []
        assert await store.memory.get("a") is None
        assert len(await store.dialogues.load("b", 2.0, WINDOW_S, 9)) == 4
        assert await store.memory.get("b", "cook") is not None
        assert (await store.outbox.backlog()).waiting == 3
        assert (await store.ownership.claim("a", "w", 4.0)).facts == DeviceFacts()


async def test_a_session_writes_nothing_of_a_device_that_was_forgotten_while_it_talked(place: StorePlace) -> None:
    """What was removed does not come back, and its holder is told."""
    async with place.opened() as store:
        claim = await store.ownership.claim("a", "w", 1.0)
        since = await store.ownership.latest()
        await store.forget("a", 2.0)
        with pytest.raises(SupersededError):
            await store.dialogues.commit(commit_of(claim, 1), 3.0)
        (lost,) = (await store.ownership.lost("w", since)).lost
        assert lost.device == "a" and lost.epoch > claim.epoch


# the file of today's server


async def test_the_memory_file_of_todays_server_is_imported_exactly_once(place: StorePlace) -> None:
    """As it writes it: device-id to text. Afterwards the store is right, whatever the file says."""
    summary = json.dumps({"时空档案": {"身份图谱": "喜欢猫"}}, ensure_ascii=False)
    path = place.data_dir / ".memory.yaml"
    path.write_text(f"11:22:33:44:55:66: '{summary}'\n'aa:bb:cc:dd:ee:ff': |\n  two\n  lines\nnobody:\n", "utf-8")
    async with place.opened() as store:
        note = await store.memory.get("11:22:33:44:55:66")
        assert note is not None and note.text == summary
        claim = await store.ownership.claim("11:22:33:44:55:66", "w", 1.0)
        await store.memory.put(claim, "newer", 2.0)
        await store.forget("aa:bb:cc:dd:ee:ff", 2.0)
    path.write_text("'11:22:33:44:55:66': older\n'aa:bb:cc:dd:ee:ff': back\n", "utf-8")
    async with place.opened() as store:
        note = await store.memory.get("11:22:33:44:55:66")
        assert note is not None and note.text == "newer"
        assert await store.memory.get("aa:bb:cc:dd:ee:ff") is None


async def test_a_memory_file_that_is_damaged_is_imported_when_it_is_mended(place: StorePlace) -> None:
    """Nothing else is lost by it, and nothing of it is imported by half."""
    path = place.data_dir / ".memory.yaml"
    path.write_text("a: 'one'\nb: 'tw", "utf-8")
    async with place.opened() as store:
        await store.ownership.claim("a", "w", 1.0)
        assert await store.memory.get("a") is None
    path.write_text("a: 'one'\nb: 'two'\n", "utf-8")
    async with place.opened() as store:
        notes = [await store.memory.get(device) for device in "ab"]
        assert [note and note.text for note in notes] == ["one", "two"]


async def test_the_memory_file_never_replaces_memory_that_is_there(place: StorePlace) -> None:
    """A file that turns up later knows less than the store."""
    async with place.opened() as store:
        await store.memory.put(await store.ownership.claim("a", "w", 1.0), "here", 1.0)
    (place.data_dir / ".memory.yaml").write_text("a: there\nb: new\n", "utf-8")
    async with place.opened() as store:
        notes = [await store.memory.get(device) for device in "ab"]
        assert [note and note.text for note in notes] == ["here", "new"]
