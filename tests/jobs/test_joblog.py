"""The log of a job: the newest lines, each of bounded length, whatever is said."""

from collections.abc import AsyncIterator

import pytest

from homeport.clock import SystemClock
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.jobs import joblog, queue
from homeport.jobs.joblog import LINE_BYTES_MAX, LINES_MAX, cut

CLOCK = SystemClock()


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(MEMORY, CLOCK)
    await database.write(queue.enqueue, CLOCK, "work", actor="ada")
    await database.write(queue.enqueue, CLOCK, "work", actor="ada")
    yield database
    await database.close()


async def test_lines_are_numbered_for_each_job(database: SqliteDatabase) -> None:
    await database.jot(joblog.say, CLOCK, 1, ["a", "b\nc\n"])
    await database.jot(joblog.say, CLOCK, 2, ["other"])
    await database.jot(joblog.say, CLOCK, 1, ["d"])
    found = await database.read(joblog.lines, 1)
    assert [(line.number, line.text) for line in found] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert [line.text for line in await database.read(joblog.lines, 1, 2, 1)] == ["c"]
    assert await database.read(joblog.lines, 1, 4) == []


async def test_the_newest_lines_are_kept(database: SqliteDatabase) -> None:
    await database.jot(joblog.say, CLOCK, 1, [str(number) for number in range(1, LINES_MAX + 11)])
    await database.jot(joblog.say, CLOCK, 1, ["last"])
    found = await database.read(joblog.lines, 1, 0, 2 * LINES_MAX)
    assert [found[0].number, found[0].text] == [12, "12"]
    assert [found[-1].number, found[-1].text] == [LINES_MAX + 11, "last"]
    assert len(found) == LINES_MAX


async def test_lines_go_with_their_job(database: SqliteDatabase) -> None:
    await database.jot(joblog.say, CLOCK, 1, ["a"])
    await database.jot(joblog.say, CLOCK, 2, ["b"])
    await database.write(queue.cancel, CLOCK, 1)
    assert await database.write(queue.prune, CLOCK.now() + 1, 10) == 1
    assert await database.read(joblog.lines, 1) == []
    assert len(await database.read(joblog.lines, 2)) == 1


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one", ["one"]),
        ("one\r\ntwo\rthree\n", ["one", "two", "three"]),
        ("a\u2028b\x85c", ["a", "b", "c"]),
        ("tab\tstays", ["tab\tstays"]),
        ("\x1b[31mred\x00\x7f\x9b", ["�[31mred���"]),
        ("half \ud800 a pair", ["half \\ud800 a pair"]),
    ],
    ids=ascii,
)
def test_no_line_does_anything_to_a_terminal(text: str, lines: list[str]) -> None:
    assert cut(text) == lines


@pytest.mark.parametrize("character", ["x", "é", "€", "\N{PILE OF POO}", "\ud800"], ids=ascii)
def test_a_line_has_a_bound(character: str) -> None:
    (line,) = cut(character * 10_000_000)
    assert LINE_BYTES_MAX - 10 < len(line.encode()) <= LINE_BYTES_MAX
    assert line.endswith("…")


def test_a_text_of_many_lines_is_its_last_ones() -> None:
    lines = cut("\n".join(map(str, range(100_000))))
    assert (lines[0], lines[-1], len(lines)) == (str(100_000 - LINES_MAX), "99999", LINES_MAX)
