"""When a checkpoint is written, whose it is, and when it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.checkpoints import Checkpoint, Piece, checkpoint, every
from results.ground.damage import PlaceError
from results.ground.errors import HarnessError, NotFinite
from results.pruning import chosen, entries
from results.stages import COMPOSED, Stages

from .cut import Cut, kept, partial


def count(piece: Piece, cut: int = 100) -> int:
    """Counts to ten, a step at a time."""
    done = piece.state["done"] if piece.state else 0
    while done < 10:
        if done == cut:
            raise Cut
        done += 1
        state = {"done": done}
        piece.offer(state.copy)
    return done


def begun(folder: Path, **given: object) -> None:
    """A process that ends in the second piece."""
    with kept(folder, **given) as own:
        assert own.run("first", count) == 10
        with pytest.raises(Cut):
            own.run("second", lambda piece: count(piece, 4))


def test_a_piece_goes_on_and_those_before_it_are_not_computed(tmp_path: Path) -> None:
    begun(tmp_path)
    with kept(tmp_path) as own:
        assert own.run("first", lambda piece: pytest.fail("computed again")) == 10
        assert own.replayed
        assert own.run("second", lambda piece: piece.state) == {"done": 4}
        assert not own.replayed
        assert own.run("third", lambda piece: piece.state) is None


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    data = {"a": torch.tensor([0.1], dtype=torch.float64), "b": [1, None, (2.5, "text")], "c": {"d": True}}
    with kept(tmp_path) as own:
        own.run("first", lambda _: data)
    with kept(tmp_path) as own:
        found = own.run("first", lambda _: pytest.fail("computed again"))
    assert torch.equal(found.pop("a"), data.pop("a"))
    assert found == data


def test_nothing_is_written_before_it_is_time(tmp_path: Path) -> None:
    begun(tmp_path, seconds=30.0)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_makes_them_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one second of writing, the next comes after twenty, and after thirty at half a second."""
    now = [100.0]
    monkeypatch.setattr("harness.checkpoints.time.monotonic", lambda: now[0])
    cost = [1.0]
    written = []

    def write(folder: Path, data: object) -> None:
        now[0] += cost[0]
        written.append(now[0])

    monkeypatch.setattr("harness.checkpoints._write", write)
    with kept(tmp_path, seconds=10.0) as own:
        for seconds in (1.0, 0.1):
            cost[0] = seconds
            now[0] += 100
            own.save({})
            now[0] += max(10.0, 20 * seconds) - 0.01
            assert not own.due()
            now[0] += 0.02
            assert own.due()


def test_a_state_of_another_size_is_not_gone_on_from(tmp_path: Path) -> None:
    """Where memory was short the size that sufficed is begun with; where it is not enough any more, all begins anew."""

    def short(own: Checkpoint, most: int, cut: int = 100) -> tuple[list[tuple[int, int]], tuple[int, int, int]]:
        tried = []

        def compute(size: int) -> int:
            def piece(going: Piece) -> int:
                tried.append((size, going.state["done"] if going.state else 0))
                if size > most:
                    raise MemoryError
                return count(going, cut)

            return own.run("first", piece)

        return tried, own.in_less_memory(compute, 8)

    with kept(tmp_path) as own, pytest.raises(Cut):
        short(own, 4, 6)
    with kept(tmp_path) as own:
        assert own.size == 4
        assert short(own, 8) == ([(4, 6)], (10, 4, 8))
    with kept(tmp_path / "other") as own, pytest.raises(Cut):
        short(own, 4, 6)
    with kept(tmp_path / "other") as own:
        assert short(own, 2) == ([(4, 6), (2, 0)], (10, 2, 8))


def test_two_processes_at_one_stage_do_not_mix(tmp_path: Path) -> None:
    begun(tmp_path)
    with kept(tmp_path), kept(tmp_path) as other:
        assert other.run("first", lambda piece: piece.state) is None
        before = partial(tmp_path).folder.stat().st_mtime_ns
        other.save({"done": 1})
        assert partial(tmp_path).folder.stat().st_mtime_ns == before


def test_seconds_and_memory_are_those_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("harness.checkpoints.time.monotonic", lambda: now[0])
    with kept(tmp_path) as own:
        own.peak = lambda: 7
        now[0] += 5
        own.save({})
        now[0] += 3  # lost
    with kept(tmp_path) as own:
        own.peak = lambda: 5
        now[0] += 2
        assert (own.seconds, own.most) == (7.0, 7)


def test_a_computation_that_has_changed_is_refused_once(tmp_path: Path) -> None:
    begun(tmp_path)
    with kept(tmp_path) as own, pytest.raises(HarnessError, match="does not fit \\(first, not other\\)"):
        own.run("other", count)
    with kept(tmp_path) as own:
        own.run("first", count)
        with pytest.raises(HarnessError, match="does not fit \\(second, not other\\)"):
            own.run("other", count)


class TestStages:
    """Beside a store."""

    def under(self, stages: Stages, error: BaseException | None = None) -> list[str]:
        """Parts that are left of a stage that ended so."""

        def compute() -> None:
            with checkpoint(stages, COMPOSED, "abc", "the fit", {"torch": "1"}, print) as own:
                own.run("first", count)
                if error is not None:
                    raise error

        if error is None:
            compute()
        else:
            with pytest.raises(type(error)):
                compute()
        return stages.partial(COMPOSED, "abc").names()

    def test_nothing_is_left_of_what_is_stored_or_would_fail_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0")
        stages = Stages(tmp_path)
        assert self.under(stages, Cut()) != []
        assert self.under(stages, PlaceError("full")) != []
        assert self.under(stages, RuntimeError("device lost")) != []
        assert self.under(stages, NotFinite("no number")) == []
        assert self.under(stages, KeyboardInterrupt()) != []
        assert self.under(stages) == []
        assert not list((tmp_path / "partial").iterdir())

    def test_a_key_has_parts_of_its_own(self, tmp_path: Path) -> None:
        begun(tmp_path)
        with checkpoint(Stages(tmp_path), COMPOSED, "abd", "another fit", {"torch": "1"}, print) as own:
            assert own.run("first", lambda piece: piece.state) is None
        assert partial(tmp_path).names() != []

    def test_parts_of_a_finished_stage_are_swept(self, tmp_path: Path) -> None:
        stages = Stages(tmp_path)
        begun(tmp_path)
        stages.sweep()
        assert partial(tmp_path).names() != []
        with stages.create(COMPOSED, "abc"):
            pass
        stages.sweep()
        assert not partial(tmp_path).folder.exists()

    def test_they_are_pruned_with_their_stage(self, tmp_path: Path) -> None:
        begun(tmp_path)
        (entry,) = (one for one in entries(Stages(tmp_path)) if one.kind == "partial")
        assert entry.stage == "composed/abc"
        assert entry.bytes > 0
        later = entry.modified + 100_000
        assert chosen([entry], now=later, of=["composed/abc"]) == [entry]
        assert chosen([entry], now=later, of=["composed/abd"]) == []
        assert chosen([entry], now=later, keep=["composed/abc"]) == []
        # It may be under way.
        assert chosen([entry], now=entry.modified + 60, of=["composed/abc"]) == []


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_the_setting_is_a_number_of_seconds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", text)
    with pytest.raises(HarnessError, match=f"HARNESS_CHECKPOINT_SECONDS is '{text}': give seconds, such as 30."):
        every()
